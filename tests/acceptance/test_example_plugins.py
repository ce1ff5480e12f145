"""The example plugins as others get them: their wheels beside the hub's, their own tests, and a flow that uses them."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest

from hub.testing import HttpReceiver
from tests.support.hub_process import HubProcess
from tests.support.installed import ROOT, also, build_wheel, install, install_project

EXAMPLES = ROOT / "examples" / "plugins"


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an environment with the hub's wheel and those of the examples."""
    folder = tmp_path_factory.mktemp("installed")
    commands = install(build_wheel(folder / "dist"), folder / "venv")
    also(commands, "pytest", "pytest-asyncio", "apprise", "asyncpg")
    for project in sorted(EXAMPLES.iterdir()):
        copy = folder / project.name
        shutil.copytree(project, copy, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache"))
        install_project(copy, commands)
    return commands


def run(*command: str | Path, cwd: Path) -> str:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HUB_", "PYTHON")) or name.startswith("HUB_TEST_")
    }
    done = subprocess.run(
        [str(one) for one in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout[-5000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.timeout(500)
@pytest.mark.parametrize("name", ["asynchub-apprise", "asynchub-sqlquery"])
def test_an_examples_own_tests_pass_with_its_wheel(commands: Path, tmp_path: Path, name: str) -> None:
    # its tests alone: what they import is what the wheel brought
    shutil.copytree(EXAMPLES / name / "tests", tmp_path / "tests")
    shutil.copy(EXAMPLES / name / "pyproject.toml", tmp_path)
    told = run(commands / "python", "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", cwd=tmp_path)
    assert " passed" in told
    assert "no PostgreSQL" not in told or not list(Path("/usr/lib/postgresql").glob("*/bin"))


def test_every_example_is_installed_by_its_wheel(commands: Path, tmp_path: Path) -> None:
    listed = json.loads(run(commands / "hub", "plugins", "list", "-o", "json", cwd=tmp_path))
    found = {one["distribution"]: (one["state"], one["types"], one["error"]) for one in listed}
    assert found["asynchub-apprise"] == ("loaded", ["apprise"], None)
    assert found["asynchub-sqlquery"] == ("loaded", ["sql.query"], None)


def test_a_flow_that_uses_both_is_told_over_one_and_asks_the_other(
    commands: Path, tmp_path: Path, http_receiver: HttpReceiver
) -> None:
    with sqlite3.connect(tmp_path / "shop.db") as shop:
        shop.execute("CREATE TABLE orders (id INTEGER, customer TEXT, total REAL)")
        shop.execute("INSERT INTO orders VALUES (1, 'Ada', 9.5)")
    shop.close()
    address = http_receiver.url.replace("http://", "json://")
    (tmp_path / "hub.yaml").write_text(
        f"plugins: {{sql: {{connections: {{shop: {{url: 'sqlite:///{tmp_path / 'shop.db'}'}}}}}}}}\n"
        f"notifiers: {{oncall: {{type: apprise, urls: '{address}'}}}}\n"
        "notify: [{on: [SUCCESS], to: oncall, template: {subject: '{{ outputs.orders[0].total }}'}}]\n"
    )
    readme = (EXAMPLES / "asynchub-sqlquery" / "README.md").read_text()
    [flow] = [text for text in re.findall(r"```yaml\n(.*?)```", readme, re.S) if text.startswith("id: ")]
    with HubProcess(tmp_path, start=(str(commands / "hub"),)) as hub:
        assert hub.call("PUT", "/api/v1/flows/shop/orders", flow.encode()).status == 201
        started = hub.call("POST", "/api/v1/flows/shop/orders/executions", {"inputs": {"customer": "Ada"}})
        ended = hub.ended(started.json["id"])
        assert ended["state"] == "SUCCESS", ended["error"]
        assert ended["outputs"] == {"orders": [{"id": 1, "total": 9.5}]}
        assert http_receiver.wait().json["title"] == "9.5"
