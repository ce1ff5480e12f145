"""``hub plugins install`` and ``uninstall``: by the environment's own tool, and never at the hub's expense."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from pathlib import Path

import pytest

from hub.environment import own_distributions
from hub.environment.tools import read_receipt
from tests.support.installed import environment_of, tool_environment_of
from tests.support.wheels import wheel

_PLUGIN = "from hub.plugin import hookimpl\n\n@hookimpl\ndef register_expression_functions():\n    return {NAME: len}\n"


class Environment:
    """An environment with the hub, and a folder of wheels that is all its tool may find."""

    def __init__(self, folder: Path, tool: str) -> None:
        make = environment_of if tool in ("uv", "pip") else tool_environment_of
        self.commands, self._env = make(folder, tool)
        self.links = folder / "links"
        self._env |= {"UV_FIND_LINKS": str(self.links), "PIP_FIND_LINKS": str(self.links)}
        plugin = {"asynchub_acme.py": _PLUGIN.replace("NAME", "'acme_length'")}
        entry = {"acme": "asynchub_acme"}
        wheel(self.links, "asynchub-acme", "1.0", plugin, requires=["asynchub>=0.1"], plugins=entry)
        # one that wants an older package than the hub has, and would get it
        wheel(self.links, "asynchub-acme", "2.0", plugin, requires=["tzdata<2021"], plugins=entry)
        wheel(self.links, "tzdata", "2020.1", {"tzdata/__init__.py": ""})
        on_top = {"asynchub_top.py": _PLUGIN.replace("NAME", "'top_length'")}
        needs, entry = ["asynchub-acme>=1"], {"top": "asynchub_top"}
        wheel(self.links, "asynchub-top", "1.0", on_top, requires=needs, plugins=entry)

    def hub(self, *words: str) -> tuple[int, str]:
        """``hub plugins …``: the exit code and all it said."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HUB_", "PY"))}
        done = subprocess.run(
            [str(self.commands / "hub"), "plugins", *words],
            cwd=self.links,
            env={**inherited, **self._env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    def version_of(self, name: str) -> str | None:
        [site] = self.commands.parent.glob("lib/python*/site-packages")
        found = [path.name.split("-")[1].removesuffix(".dist") for path in site.glob(f"{name}-*.dist-info")]
        assert len(found) < 2
        return found[0] if found else None

    def remembered(self) -> set[str]:
        """What the tool of an application takes for installed by itself."""
        root = self.commands.parent
        if (root / "pipx_metadata.json").exists():
            metadata = json.loads((root / "pipx_metadata.json").read_text())
            return {metadata["main_package"]["package"], *metadata["injected_packages"]}
        receipt = tomllib.loads((root / "uv-receipt.toml").read_text())
        return {one["name"] for one in receipt["tool"]["requirements"]}

    def upgrade(self) -> None:
        """Have the tool of an application bring everything up to date."""
        if (self.commands.parent / "pipx_metadata.json").exists():
            command = ["pipx", "upgrade", "--include-injected", "asynchub"]
        else:
            command = [self._env["UV"], "tool", "upgrade", "asynchub"]
        subprocess.run(command, env={**os.environ, **self._env}, check=True)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("tool", ["uv", pytest.param("pip", marks=pytest.mark.faults)])
def test_what_would_change_the_hubs_own_packages_is_refused(tmp_path: Path, tool: str) -> None:
    here = Environment(tmp_path, tool)
    before = here.version_of("tzdata")

    code, said = here.hub("install", "asynchub-acme==2.0")
    assert code == 7
    assert f"this would change what the hub itself depends on: tzdata {before} → 2020.1" in said
    assert (here.version_of("asynchub_acme"), here.version_of("tzdata")) == (None, before)

    # asked for, it is done
    code, said = here.hub("install", "--change-dependencies", "asynchub-acme==2.0")
    assert code == 0, said
    assert (here.version_of("asynchub_acme"), here.version_of("tzdata")) == ("2.0", "2020.1")


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.parametrize("tool", ["uv", "pip"])
def test_plugins_come_and_go(tmp_path: Path, tool: str) -> None:
    here = Environment(tmp_path, tool)
    # of what it needs it takes the version that fits
    code, said = here.hub("install", "--dry-run", "asynchub-top")
    assert code == 0, said
    assert here.version_of("asynchub_top") is None
    code, said = here.hub("install", "asynchub-top")
    assert code == 0, said
    assert f"{tool}: asynchub-acme 1.0" in said
    assert "top 1.0 loaded" in said
    # of the hub's own packages, which it depends on too, nothing has to be said
    assert "already" not in said
    assert "nothing would change" in here.hub("install", "asynchub-acme")[1]

    code, said = here.hub("uninstall", "acme")
    assert code == 7
    assert "asynchub-acme is needed by asynchub-top" in said
    assert here.version_of("asynchub_acme") == "1.0"
    assert here.hub("uninstall", "top", "asynchub-acme")[0] == 0
    assert (here.version_of("asynchub_top"), here.version_of("asynchub_acme")) == (None, None)

    assert here.hub("uninstall", "http")[0] == 3
    code, said = here.hub("uninstall", "nowhere")
    assert code == 4
    assert 'no plugin "nowhere" is installed' in said
    code, said = here.hub("install", "asynchub-of-nobody")
    assert code == 7
    assert "asynchub-of-nobody" in said


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("tool", ["uv tool", "pipx"])
def test_an_application_keeps_its_plugins_by_the_tool_that_installed_it(tmp_path: Path, tool: str) -> None:
    """pipx and ``uv tool`` remember what is beside a hub: what they did not do themselves their next upgrade undoes."""
    here = Environment(tmp_path, tool)
    before = here.version_of("tzdata")

    code, said = here.hub("install", "--dry-run", "asynchub-top")
    assert code == 0, said
    assert here.version_of("asynchub_top") is None
    code, said = here.hub("install", "asynchub-top")
    assert code == 0, said
    assert f"{tool}: asynchub-acme 1.0" in said
    assert "top 1.0 loaded" in said
    assert here.remembered() == {"asynchub", "asynchub-top"}

    # of a newer version, which wants an older package than the hub has, it is kept
    code, said = here.hub("install", "asynchub-acme==2.0")
    assert code == 7
    assert f"this would change what the hub itself depends on: tzdata {before} → 2020.1" in said
    assert (here.version_of("asynchub_acme"), here.version_of("tzdata")) == ("1.0", before)

    # what the tool does for itself leaves the plugin where it is
    here.upgrade()
    assert (here.version_of("asynchub_top"), here.version_of("asynchub_acme")) == ("1.0", "1.0")
    assert here.hub("list", "-o", "name")[1].split().count("top") == 1

    code, said = here.hub("uninstall", "acme")
    assert code == 7
    assert "asynchub-acme is needed by asynchub-top" in said
    assert here.hub("uninstall", "top")[0] == 0
    assert here.remembered() == {"asynchub"}
    assert here.version_of("asynchub_top") is None
    assert here.version_of("asynchub_acme") == ("1.0" if tool == "pipx" else None)
    # the hub has all that it needs
    code, said = here.hub("list", "-o", "name")
    assert code == 0, said
    assert "top" not in said.split()
    code, said = here.hub("install", "asynchub-of-nobody")
    assert code == 7
    assert "asynchub-of-nobody" in said


def test_the_hubs_own_packages_are_those_it_needs_and_those_that_these_need() -> None:
    own = own_distributions()
    assert {"asynchub", "aiohttp", "pydantic", "pydantic-core", "multidict"} <= own
    assert "aiosmtplib" in own, "one of an extra, where it is installed"
    assert not {"pytest", "ruff", "mypy"} & own


def test_a_receipt_of_uvs_is_read_as_it_was_asked_for(tmp_path: Path) -> None:
    receipt = tmp_path / "uv-receipt.toml"
    receipt.write_text(
        "[tool]\nrequirements = [\n"
        '    { name = "asynchub", extras = ["all"], specifier = ">=0.1" },\n'
        '    { name = "asynchub-acme", specifier = "==1.0" },\n'
        '    { name = "asynchub-top", path = "/wheels/asynchub_top-1.0-py3-none-any.whl" },\n'
        "]\n"
    )
    hub, beside = read_receipt(receipt)
    assert hub == "asynchub[all]>=0.1"
    assert beside == [
        "asynchub-acme==1.0",
        "asynchub-top @ file:///wheels/asynchub_top-1.0-py3-none-any.whl",
    ]
