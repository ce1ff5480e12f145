"""The snippets for pipelines: their shell lines run as they stand, in a checkout, against a real hub."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pytest

from hub.cli.root import cli
from hub.config import yaml
from tests.support.hub_process import HubProcess, hub_command
from tests.support.schemas import schema_errors

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples" / "ci"
PAGE = ROOT / "docs" / "how-to" / "git-and-ci.md"
TOKEN = "let-me-in"
_GOOD = "id: {id}\nnamespace: ci\ntasks: [{{id: t, type: return, value: 1}}]\n"
_BAD = "id: bad\nnamespace: ci\ntasks: [{id: t, type: retrun}]\n"


@dataclass(frozen=True)
class Part:
    """A piece of shell that a runner starts on its own, with what the file adds to its environment."""

    script: str
    options: str
    env: Mapping[str, str] = field(default_factory=dict)


def _read(name: str) -> Any:
    return yaml.parse((EXAMPLES / name).read_text()).root.plain()


def _github(is_review: bool) -> list[Part]:
    workflow = _read("github-actions.yml")
    event = "pull_request" if is_review else "push"
    [job] = [one for one in workflow["jobs"].values() if one["if"] == f"github.event_name == '{event}'"]
    settings = {"${{ vars.HUB_SERVER }}": "HUB_SERVER", "${{ secrets.HUB_TOKEN }}": "HUB_TOKEN"}
    return [
        Part(
            step["run"],
            "-e",
            {name: settings[value] for name, value in {**workflow["env"], **step.get("env", {})}.items()},
        )
        for step in job["steps"]
        if "run" in step
    ]


def _gitlab(is_review: bool) -> list[Part]:
    pipeline = _read("gitlab-ci.yml")
    when = (
        '$CI_PIPELINE_SOURCE == "merge_request_event"'
        if is_review
        else "$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH"
    )
    jobs = [one for one in pipeline.values() if isinstance(one, dict) and one.get("rules") == [{"if": when}]]
    before = pipeline["default"]["before_script"]
    return [Part("\n".join([*before, *job["script"]]), "-eo pipefail", _BOTH) for job in jobs]


def _azure(is_review: bool) -> list[Part]:
    wanted = "'PullRequest'" if is_review else "'refs/heads/main'"
    return [
        Part(
            step["script"],
            "",
            {"HUB_SERVER": "HUB_SERVER", **({"HUB_TOKEN": "HUB_TOKEN"} if "env" in step else {})},
        )
        for step in _read("azure-pipelines.yml")["steps"]
        if "script" in step and wanted in step.get("condition", wanted)
    ]


def _bitbucket(is_review: bool) -> list[Part]:
    pipelines = _read("bitbucket-pipelines.yml")["pipelines"]
    steps = pipelines["pull-requests"]["**"] if is_review else pipelines["branches"]["main"]
    return [Part("\n".join(one["step"]["script"]), "-e", _BOTH) for one in steps]


_BOTH = {"HUB_SERVER": "HUB_SERVER", "HUB_TOKEN": "HUB_TOKEN"}
SYSTEMS: Mapping[str, Callable[[bool], list[Part]]] = {
    "github": _github,
    "gitlab": _gitlab,
    "azure": _azure,
    "bitbucket": _bitbucket,
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH as a runner's: a pip to install with, which finds this project where a registry would have it."""
    folder = tmp_path_factory.mktemp("runner") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    [site] = folder.glob("lib/python*/site-packages")
    own = next(one for one in sys.path if one.endswith("site-packages"))
    (site / "hub-of-this-project.pth").write_text(f"{own}\n")
    return os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.defpath])


@dataclass(frozen=True)
class Runner:
    """A checkout and the pipelines in it."""

    checkout: Path
    hub: HubProcess
    path: str

    def write(self, id: str, text: str = _GOOD) -> None:
        (self.checkout / "flows" / f"{id}.hub.yaml").write_text(
            text.replace("{id}", id).replace("{{", "{").replace("}}", "}")
        )

    def run(self, system: str, *, is_review: bool) -> tuple[int, str]:
        """Run the parts until one fails; the exit code, and everything that was said."""
        parts = SYSTEMS[system](is_review)
        assert parts
        said = ""
        settings = {"HUB_SERVER": self.hub.url, "HUB_TOKEN": TOKEN}
        for part in parts:
            env = {
                "PATH": self.path,
                "HOME": str(self.checkout),
                "GITHUB_STEP_SUMMARY": str(self.checkout / "summary.md"),
                "PIP_NO_INDEX": "1",
                **{name: settings[value] for name, value in part.env.items()},
            }
            done = subprocess.run(
                ["bash", *part.options.split(), "-c", part.script],
                cwd=self.checkout, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            )  # fmt: skip
            said += done.stdout
            if done.returncode != 0:
                return done.returncode, said
        return 0, said

    def served(self) -> list[str]:
        answer = self.hub.call("GET", "/api/v1/flows", headers={"Authorization": f"Bearer {TOKEN}"})
        return [one["id"] for one in answer.json["items"]]


@pytest.fixture
def runner(tmp_path: Path, path: str) -> Iterator[Runner]:
    checkout = tmp_path / "checkout"
    (checkout / "flows").mkdir(parents=True)
    (checkout / ".git").mkdir()
    (tmp_path / "data").mkdir()
    with HubProcess(tmp_path / "data", env={"HUB_TOKEN": TOKEN}) as hub:
        yield Runner(checkout, hub, path)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_pull_request_is_checked_and_main_is_deployed(runner: Runner, system: str) -> None:
    runner.write("one")
    runner.write("two")
    code, said = runner.run(system, is_review=True)
    summary = runner.checkout / "summary.md"
    assert code == 0, said
    assert "+++ flows/one.hub.yaml" in said + (summary.read_text() if summary.exists() else "")
    assert runner.served() == []
    code, said = runner.run(system, is_review=False)
    assert (code, runner.served()) == (0, ["one", "two"]), said
    (runner.checkout / "flows" / "two.hub.yaml").unlink()
    code, said = runner.run(system, is_review=False)
    assert (code, runner.served()) == (0, ["one"]), said
    assert "deleted      ci/two" in said
    # nothing to say is no failure either
    assert runner.run(system, is_review=True)[0] == 0


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_pull_request_with_a_mistake_fails_and_so_does_its_deployment(runner: Runner, system: str) -> None:
    runner.write("one")
    runner.write("bad", _BAD)
    code, said = runner.run(system, is_review=True)
    assert code != 0, said
    assert 'unknown task type "retrun"' in said
    if system == "github":
        assert "::error file=flows/bad.hub.yaml,line=3,col=23::" in said
    if system == "azure":
        assert "##vso[task.logissue type=error;sourcepath=flows/bad.hub.yaml;" in said
    if system == "gitlab":
        assert '"path":"flows/bad.hub.yaml"' in (runner.checkout / "gl-code-quality-report.json").read_text()
    assert runner.run(system, is_review=False)[0] != 0
    assert runner.served() == []


def test_a_pull_request_whose_hub_cannot_be_asked_fails(runner: Runner) -> None:
    runner.write("one")
    runner.hub.stop()
    for system in SYSTEMS:
        assert runner.run(system, is_review=True)[0] != 0, system


@pytest.mark.parametrize(
    ("name", "schema", "right", "wrong"),
    [
        ("github-actions.yml", "github-workflows", "runs-on:", "runs_on:"),
        ("gitlab-ci.yml", "gitlab-ci", "when: always", "when: ever"),
        ("azure-pipelines.yml", "azure-pipelines", "- script:", "- scirpt:"),
        ("bitbucket-pipelines.yml", "bitbucket-pipelines", "- step:", "- stap:"),
    ],
)
def test_a_snippet_holds_to_the_schema_of_its_pipelines(
    tmp_path: Path, name: str, schema: str, right: str, wrong: str
) -> None:
    text = (EXAMPLES / name).read_text()
    assert right in text
    assert schema_errors(EXAMPLES / name, builtin=schema) == ""
    spoilt = tmp_path / name
    spoilt.write_text(text.replace(right, wrong))
    assert schema_errors(spoilt, builtin=schema) != ""


@pytest.mark.parametrize("path", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_the_page_shows_each_snippet_as_it_is(path: Path) -> None:
    assert f"```yaml\n{path.read_text()}```" in PAGE.read_text()


COMMANDS = cli.list_commands(click.Context(cli))


def _command(hook: Any) -> str:
    name: str = hook["entry"].split()[1]
    return name


def _hooks() -> list[Any]:
    found: list[Any] = yaml.parse((ROOT / ".pre-commit-hooks.yaml").read_text()).root.plain()
    return found


def test_the_pre_commit_example_names_hooks_that_there_are() -> None:
    [repository] = _read("pre-commit-config.yaml")["repos"]
    assert {one["id"] for one in repository["hooks"]} == {hook["id"] for hook in _hooks()}


@pytest.mark.parametrize(
    "hook",
    [
        pytest.param(
            hook,
            id=hook["id"],
            # strict: the mark goes when the command comes
            marks=[pytest.mark.xfail(reason="there is no such command yet")]
            * (_command(hook) not in COMMANDS),
        )
        for hook in _hooks()
    ],
)
def test_a_pre_commit_hook_passes_good_files_and_fails_bad_ones(hook: Any, tmp_path: Path) -> None:
    assert hook["language"] == "python"
    assert re.search(hook["files"], "flows/a.hub.yaml")
    assert not re.search(hook["files"], "hub.yaml")
    program, command, *options = hook["entry"].split()
    assert program == "hub"
    assert command in COMMANDS
    good, bad = tmp_path / "good.hub.yaml", tmp_path / "bad.hub.yaml"
    good.write_text("id: good\nnamespace: ci\ntasks:\n  - id: t\n    type: return\n    value: 1\n")
    bad.write_text("namespace:   ci\nid:   bad\ntasks:\n      - {id: t,type: retrun}\n")
    assert hub_command(command, *options, good.name, cwd=tmp_path).returncode == 0
    assert hub_command(command, *options, good.name, bad.name, cwd=tmp_path).returncode != 0
