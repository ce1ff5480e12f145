"""From nothing to a flow of one's own: each command as its users type it, on real files and real hubs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from hub.cli.root import cli
from hub.config.flows import load_flow
from hub.config.formatting import formatted
from hub.config.settings import load_settings
from hub.config.yaml import parse
from hub.expressions import builtin_functions
from hub.model.ids import is_namespace
from hub.registry import load_plugins
from hub.scaffold import write_project
from tests.support.hub_process import HubProcess, hub_command
from tests.support.installed import build_wheel, install

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parent.parent.parent


def environment(**more: str) -> dict[str, str]:
    """An environment without settings of whoever runs the tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HUB_")} | more


# -- the wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    return install(build_wheel(folder / "dist"), folder / "environment")


def test_from_the_wheel_a_schedule_runs_within_a_minute(installed: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    env = environment(HUB_PORT="0", PATH=f"{installed}{os.pathsep}/usr/bin:/bin")
    line = "asynchub init demo && cd demo && exec hub serve"
    with subprocess.Popen(
        ["sh", "-c", line],
        cwd=tmp_path,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as serving:
        try:
            assert serving.stdout is not None
            ready = next(text for text in serving.stdout if " ready at " in text)
            assert "1 flow " in ready
            fired = _first_event(installed, tmp_path / "demo", env, "/demo/first/tick")
            assert time.monotonic() - began < 60
            assert all(one["outcome"] == "started" for one in fired["verdicts"])
            followed = _run(installed, "executions", "logs", "last", "-f", cwd=tmp_path / "demo", env=env)
            assert "Hello, world!" in followed.stdout
        finally:
            serving.send_signal(signal.SIGTERM)
        assert serving.wait(60) == 0


def _first_event(commands: Path, folder: Path, env: dict[str, str], source: str) -> dict[str, Any]:
    """The first event of a source, as `events tail` tells it."""
    command = [str(commands / "asynchub"), "events", "tail", "-o", "jsonl"]
    with subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True) as tail:
        try:
            assert tail.stdout is not None
            events = (json.loads(line) for line in tail.stdout)
            return next(event for event in events if event["source"].endswith(source))
        finally:
            tail.kill()


def _run(commands: Path, *arguments: str, cwd: Path, env: dict[str, str]) -> Any:
    command = [str(commands / "hub"), *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=60, check=True)


def test_the_wheel_brings_its_blueprints_and_needs_nothing_undeclared(
    installed: Path, tmp_path: Path
) -> None:
    env = environment(PATH=f"{installed}{os.pathsep}/usr/bin:/bin")
    listed = _run(installed, "blueprints", "list", "-o", "name", cwd=tmp_path, env=env)
    assert listed.stdout.split() == sorted(path.name for path in (ROOT / "blueprints").iterdir())
    where = subprocess.run(
        [installed / "python", "-c", "import hub; print(hub.__file__)"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.startswith(str(installed.parent))
    plugins = json.loads(_run(installed, "plugins", "list", "-o", "json", cwd=tmp_path, env=env).stdout)
    missing = {one["name"]: one["error"] for one in plugins if one["state"] != "loaded"}
    drivers = {"email": "aiosmtplib", "kafka": "aiokafka", "postgres": "asyncpg"}
    assert missing.keys() == drivers.keys()
    for name, driver in drivers.items():
        assert missing[name].endswith(
            f"{driver} is not installed. Install it with: pip install 'asynchub[{name}]'"
        )


# -- init


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    done = hub_command("init", "demo", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "demo"


@pytest.fixture
def project(written: Path, tmp_path: Path) -> Path:
    """A project as `hub init demo` wrote it."""
    return shutil.copytree(written, tmp_path / "demo")


def test_init_says_what_it_wrote_and_what_to_do_next(tmp_path: Path) -> None:
    done = hub_command("init", "my demo", cwd=tmp_path)
    written = re.findall(r"^wrote (.*)$", done.stdout, re.M)
    there = [str(path.relative_to(tmp_path)) for path in (tmp_path / "my demo").rglob("*") if path.is_file()]
    assert sorted(written) == sorted(there)
    assert "  cd 'my demo'\n  hub serve " in done.stdout


def test_everything_init_writes_holds(project: Path) -> None:
    workflow = yaml.safe_load((project / ".github" / "workflows" / "flows.yml").read_text())
    lines = [step["run"] for step in workflow["jobs"]["validate"]["steps"] if "run" in step]
    assert lines[0] == "pip install asynchub"
    for line in lines[1:]:
        env = environment(PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}")
        done = subprocess.run(["sh", "-ec", line], cwd=project, env=env, capture_output=True, text=True)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
    assert load_settings({}, folder=project).settings.flows == ["flows"]
    assert "demo/first" in (project / "README.md").read_text()
    for file in (project / "hub.yaml", project / "flows" / "first.hub.yaml"):
        name = file.read_text().splitlines()[0].removeprefix("# yaml-language-server: $schema=")
        assert "$schema" in json.loads((file.parent / name).read_text())
    editor = json.loads((project / ".vscode" / "settings.json").read_text())
    assert all((project / schema).is_file() for schema in editor["yaml.schemas"])
    assert (project / "secrets.env").stat().st_mode & 0o777 == 0o600


def test_git_sees_neither_secrets_nor_what_a_hub_keeps(project: Path) -> None:
    run = hub_command("run", "flows/first.hub.yaml", "-i", "name=Ada", cwd=project)
    assert "Hello, Ada!" in run.stdout
    with HubProcess(project):
        (project / "hub.log").unlink()
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    seen = subprocess.run(
        ["git", "status", "--short", "-uall"], cwd=project, capture_output=True, text=True, check=True
    )
    files = [line[3:] for line in seen.stdout.splitlines()]
    assert "flows/first.hub.yaml" in files
    assert not [file for file in files if file.startswith(("hub.", "secrets")) and file != "hub.yaml"]


def test_init_overwrites_nothing_unless_forced(project: Path) -> None:
    (project / "hub.yaml").write_text("server: {port: 1234}\n")
    (project / ".gitignore").write_text("mine\n")
    secret = (project / "secrets.env").read_text()
    for path in (project / "README.md", project / ".github" / "workflows" / "flows.yml"):
        path.unlink()
    refused = hub_command("init", ".", cwd=project)
    assert refused.returncode == 7
    assert "already there: hub.yaml, flows/first.hub.yaml" in refused.stderr
    assert "--force" in refused.stderr
    assert not (project / "README.md").exists()
    assert (project / ".gitignore").read_text() == "mine\n"
    forced = hub_command("init", ".", "--force", cwd=project)
    assert forced.returncode == 0
    assert "replaced hub.yaml" in forced.stdout
    assert "added to .gitignore" in forced.stdout
    assert "kept secrets.env" in forced.stdout
    assert (project / "secrets.env").read_text() == secret
    assert (project / ".gitignore").read_text().startswith("mine\n")
    assert "1234" not in (project / "hub.yaml").read_text()


@pytest.mark.parametrize("name", ["My shop!", "2", "true", "a.b", "-x-", "Ünï", "été", "x" * 150, "a..b."])
def test_any_folder_gives_a_flow_that_can_be_saved(tmp_path: Path, name: str) -> None:
    registry = load_plugins({})
    functions = builtin_functions(lambda: datetime.now(UTC)).with_functions(registry.functions)
    write_project(tmp_path / name, namespace=None, registry=registry)
    path = tmp_path / name / "flows" / "first.hub.yaml"
    loaded = load_flow(path.read_text(), registry=registry, functions=functions)
    assert loaded.warnings == ()
    assert is_namespace(loaded.flow.namespace)
    assert formatted(path.read_text()) == path.read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["init"], 2, "DIR"),
        (["init", "x", "--namespace", "a b"], 3, "cannot be a namespace"),
        (["init", "file"], 7, "is a file"),
    ],
)
def test_init_refuses_what_cannot_be(tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    (tmp_path / "file").touch()
    done = hub_command(*arguments, cwd=tmp_path)
    assert (done.returncode, words in done.stderr) == (code, True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# -- blueprints


def test_blueprints_are_listed_with_what_they_do(tmp_path: Path) -> None:
    items = json.loads(hub_command("blueprints", "list", "-o", "json", cwd=tmp_path).stdout)
    by_name = {item["name"]: item for item in items}
    hello = by_name["hello"]
    assert hello["summary"] == hello["flows"][0]["description"] == "Greet whoever calls the webhook."
    assert by_name["github-push"]["secrets"] == ["GITHUB_WEBHOOK_SECRET"]
    assert "hello" in hub_command("blueprints", "list", cwd=tmp_path).stdout
    shown = hub_command("blueprints", "show", "hello", cwd=tmp_path).stdout
    assert shown.startswith("# hello\n")
    assert "type: return" in shown
    one = json.loads(hub_command("blueprints", "show", "hello", "-o", "json", cwd=tmp_path).stdout)
    assert one["flows"][0]["source"] in shown


def test_a_used_blueprint_is_a_flow_of_ones_own(project: Path) -> None:
    done = hub_command("blueprints", "use", "github-push", "--id", "mine", "--namespace", "a.b", cwd=project)
    assert "wrote flows/mine.hub.yaml" in done.stdout
    assert "GITHUB_WEBHOOK_SECRET" in done.stdout
    source = (project / "flows" / "mine.hub.yaml").read_text()
    assert source.startswith(
        "# yaml-language-server: $schema=../.vscode/hub-flow.schema.json\nid: mine\nnamespace: a.b\n"
    )
    assert hub_command("validate", cwd=project).returncode == 0
    again = hub_command("blueprints", "use", "github-push", "--id", "mine", cwd=project)
    assert (again.returncode, "already there" in again.stderr) == (7, True)
    assert (project / "flows" / "mine.hub.yaml").read_text() == source


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """A blueprint of somebody else: two flows that name each other."""
    folder = tmp_path / "chain"
    folder.mkdir()
    (folder / "README.md").write_text("\n# Two flows in a row\n\nMore.\n")
    (folder / "a.hub.yaml").write_text(
        '# first\nid: one   # its name\nnamespace: "acme.chain"\nvariables: {next: acme.chain/two, other: acme.chain/three}\n'
        "tasks: [{id: a, type: log, message: x}]\n"
    )
    (folder / "b.hub.yaml").write_text(
        "id: two\nnamespace: acme.chain\ndescription: The second.\nvariables: {from: {namespace: acme.chain, flow: one}}\n"
        "tasks: [{id: a, type: log, message: acme.chain/two}]\n"
    )
    return folder


def test_flows_that_name_each_other_are_renamed_together(chain: Path, tmp_path: Path) -> None:
    done = hub_command("blueprints", "use", "./chain", "--into", "mine", "--namespace", "on", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mine" / "a.hub.yaml").read_text() == (
        '# first\nid: one   # its name\nnamespace: "on"\nvariables: {next: on/two, other: acme.chain/three}\n'
        "tasks: [{id: a, type: log, message: x}]\n"
    ).replace('"on"', "on")
    second = parse((tmp_path / "mine" / "b.hub.yaml").read_text()).root.plain()
    assert second["variables"] == {"from": {"namespace": "on", "flow": "one"}}
    shown = hub_command("blueprints", "show", "./chain", "-o", "json", cwd=tmp_path)
    assert json.loads(shown.stdout)["title"] == "Two flows in a row"
    assert json.loads(shown.stdout)["summary"] == "The second."


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["show", "helo"], 4, 'did you mean "hello"?'),
        (["show", "../chain/none"], 4, "no blueprint"),
        (["use", "./chain", "--id", "x"], 3, "has 2 flows (one, two)"),
        (["use", "hello", "--id", "no id"], 3, "cannot be an id"),
        (["use", "hello", "--namespace", "a/b"], 3, "cannot be a namespace"),
    ],
)
def test_blueprints_refuse_what_cannot_be(
    chain: Path, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    done = hub_command("blueprints", *arguments, cwd=tmp_path)
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert not (tmp_path / "flows").exists()


# -- schema


def test_schema_prints_what_editors_read(tmp_path: Path) -> None:
    flow = json.loads(hub_command("schema", cwd=tmp_path).stdout)
    assert "task.log" in flow["$defs"]
    of_settings = json.loads(hub_command("schema", "--settings", cwd=tmp_path).stdout)
    assert {"storage", "flows", "server", "plugins"} <= of_settings["properties"].keys()
    assert hub_command("schema", "--settings", "--vscode", cwd=tmp_path).returncode == 2


def test_schema_adds_itself_to_an_editors_settings(tmp_path: Path) -> None:
    settings = tmp_path / ".vscode" / "settings.json"
    settings.parent.mkdir()
    settings.write_text('{\n    // mine\n    "editor.tabSize": 3, // three\n}\n')
    first = hub_command("schema", "--vscode", cwd=tmp_path)
    assert "added to .vscode/settings.json" in first.stdout
    text = settings.read_text()
    assert text.startswith('{\n    // mine\n    "editor.tabSize": 3, // three\n')
    assert '"./.vscode/hub-flow.schema.json"' in text
    second = hub_command("schema", "--vscode", cwd=tmp_path)
    assert second.stdout.count("kept") == 3
    assert settings.read_text() == text


def test_schema_writes_nothing_where_an_editors_settings_are_broken(tmp_path: Path) -> None:
    (tmp_path / ".vscode").mkdir()
    (tmp_path / ".vscode" / "settings.json").write_text('{\n  "a": \n}\n')
    done = hub_command("schema", "--vscode", cwd=tmp_path)
    assert done.returncode == 3
    assert "line 3: expected a value" in done.stderr
    assert "yaml.schemas" in done.stderr
    assert [path.name for path in (tmp_path / ".vscode").iterdir()] == ["settings.json"]


# -- config


def test_config_says_where_each_setting_comes_from(tmp_path: Path) -> None:
    (tmp_path / "hub.yaml").write_text(
        "server:\n  port: 1234\n  host: ::1\n"
        "plugins: {slack: {token: sesame, url: 'https://u:sesame@h/', key: \"{{ secret('K') }}\"}}\n"
    )
    (tmp_path / "token").write_text("open sesame please\n")
    env = {
        "HUB_TOKEN_FILE": str(tmp_path / "token"),
        "HUB_HOST": "127.0.0.2",
        "HUB_STORAGE": "postgresql://u:sesame@h/db",
    }
    arguments = ("config", "show", "--origin", "--public-url", "https://hub.example")
    done = hub_command(*arguments, "-o", "json", cwd=tmp_path, env=env)
    found = {item["name"]: (item["value"], item["origin"]) for item in json.loads(done.stdout)}
    assert found["server.port"] == (1234, "hub.yaml:2:9")
    assert found["server.host"] == ("127.0.0.2", "HUB_HOST")
    assert found["server.publicUrl"] == ("https://hub.example", "--public-url")
    assert found["server.token"] == ("******", "HUB_TOKEN_FILE")
    assert found["flows"] == (["flows"], "default")
    assert found["data"] == (str(tmp_path), "default")
    assert found["storage"] == ("postgresql://u:******@h/db", "HUB_STORAGE")
    assert found["plugins.slack.token"] == ("******", "hub.yaml:4:26")
    assert found["plugins.slack.url"][0] == "https://u:******@h/"
    assert found["plugins.slack.key"][0] == "{{ secret('K') }}"
    table = hub_command(*arguments, cwd=tmp_path, env=env)
    assert re.search(r"^server.port +1234 +hub.yaml:2:9$", table.stdout, re.M)
    assert "sesame" not in done.stdout + table.stdout


def test_config_names_the_place_of_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "hub.yaml").write_text("server: {prot: 1}\n")
    done = hub_command("config", "show", cwd=tmp_path)
    assert done.returncode == 3
    assert "hub.yaml:1:10" in done.stderr
    assert 'did you mean "port"?' in done.stderr


# -- fmt

_UNTIDY = "id:   a\nnamespace: n\ntasks:\n# one\n- {id: b,type: log, message: x}   # say\n"
_TIDY = "id: a\nnamespace: n\ntasks:\n  # one\n  - {id: b, type: log, message: x}   # say\n"


@pytest.fixture
def untidy(tmp_path: Path) -> Path:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "a.hub.yaml").write_text(_UNTIDY)
    (tmp_path / "flows" / "b.hub.yaml").write_text(_TIDY)
    return tmp_path / "flows" / "a.hub.yaml"


def test_fmt_checks_shows_and_writes(untidy: Path, tmp_path: Path) -> None:
    checked = hub_command("fmt", "--check", cwd=tmp_path)
    assert (checked.returncode, checked.stdout) == (9, "would format flows/a.hub.yaml\n")
    shown = hub_command("fmt", "--diff", "flows", cwd=tmp_path)
    assert (shown.returncode, "\n+  # one\n" in shown.stdout) == (0, True)
    assert hub_command("fmt", "--diff", "--check", cwd=tmp_path).returncode == 9
    assert untidy.read_text() == _UNTIDY
    untidy.chmod(0o640)
    done = hub_command("fmt", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "formatted flows/a.hub.yaml\n")
    assert untidy.read_text() == _TIDY
    assert untidy.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in untidy.parent.iterdir()) == ["a.hub.yaml", "b.hub.yaml"]
    assert hub_command("fmt", "--check", cwd=tmp_path).returncode == 0


def test_fmt_leaves_what_it_cannot_read_and_does_the_rest(untidy: Path, tmp_path: Path) -> None:
    broken = tmp_path / "flows" / "c.hub.yaml"
    broken.write_text("id: a\nid: b\n")
    (tmp_path / "flows" / "d.hub.yaml").write_bytes(b"id: \xff\n")
    done = hub_command("fmt", cwd=tmp_path)
    assert done.returncode == 3
    assert "c.hub.yaml:2:1" in done.stderr
    assert "d.hub.yaml:1:1" in done.stderr
    assert "Traceback" not in done.stderr
    assert broken.read_text() == "id: a\nid: b\n"
    assert untidy.read_text() == _TIDY


def test_fmt_reads_from_standard_input(tmp_path: Path) -> None:
    def fmt(*arguments: str, text: str = _UNTIDY) -> Any:
        command = [sys.executable, "-m", "hub", "fmt", "-", *arguments]
        return subprocess.run(command, input=text, capture_output=True, text=True, cwd=tmp_path)

    assert fmt().stdout == _TIDY
    assert fmt("--check").returncode == 9
    assert fmt("--check", text=_TIDY).returncode == 0
    assert fmt(text="a: [").returncode == 3


# -- doctor


def examine(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    """What the doctor finds, by check."""
    done = hub_command("doctor", "-o", "json", *arguments, cwd=folder, env={"HUB_PORT": "0", **(env or {})})
    assert "Traceback" not in done.stderr
    return done.returncode, {one["check"]: one for one in json.loads(done.stdout)}


def test_the_doctor_finds_a_new_project_well_and_changes_nothing(project: Path) -> None:
    before = sorted(project.rglob("*"))
    code, found = examine(project)
    assert code == 0, [one for one in found.values() if one["state"] == "fail"]
    looked_at = {"python", "platform", "sqlite", "data folder", "disk", "flush", "storage", "port", "server"}
    assert looked_at | {"flows", "secrets", "clock", "plugins", "file watching"} <= found.keys()
    assert found["flows"]["found"] == "1 valid"
    assert all(one["hint"] for one in found.values() if one["state"] != "ok")
    assert sorted(project.rglob("*")) == before


def test_the_doctor_finds_what_is_ill(project: Path) -> None:
    (project / "flows" / "bad.hub.yaml").write_text("id: bad\nnamespace: n\ntasks: [{id: a, type: lgo}]\n")
    (project / "secrets.env").write_text("OTHER=x\n")
    (project / "secrets.env").chmod(0o644)
    (project / "hub.db").write_text("not a database, whatever its name says")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        env = {"HUB_PORT": str(port), "HUB_TOKEN": "short"}
        code, found = examine(project, "--server", "http://127.0.0.1:9", env=env)
    assert code == 1
    failed = {name for name, one in found.items() if one["state"] == "fail"}
    assert failed == {"flows", "secret FIRST_KEY", "storage", "port", "server"}
    assert "flows/bad.hub.yaml:3:23" in found["flows"]["found"]
    assert f"127.0.0.1:{port} is held by another program" in found["port"]["found"]
    assert "is no SQLite database" in found["storage"]["found"]
    assert found["access"]["state"] == "warn"
    assert found["secrets.env"]["hint"].startswith("chmod 600 ")


def test_the_doctor_knows_a_database_of_a_newer_hub(project: Path) -> None:
    with sqlite3.connect(project / "hub.db") as database:
        database.execute("CREATE TABLE t (x)")
        database.execute("PRAGMA user_version = 9999")
    code, found = examine(project)
    assert (code, found["storage"]["state"]) == (1, "fail")
    assert "schema 9999" in found["storage"]["found"]


def test_the_doctor_knows_the_hub_that_serves_the_folder(project: Path, tmp_path: Path) -> None:
    with HubProcess(project, env={"HUB_TOKEN": "a token that is long enough"}) as hub:
        env = {"HUB_PORT": str(hub.port), "HUB_TOKEN": "a token that is long enough"}
        code, found = examine(project, env=env)
        assert code == 0, found
        assert hub.process is not None
        assert f"held by process {hub.process.pid}" in found["storage"]["found"]
        assert "held by this folder's hub" in found["port"]["found"]
        assert found["server"]["found"] == f"{hub.url} is ready"
        _, stranger = examine(project, env={"HUB_TOKEN": "another token, long enough"})
        assert "refuses the token" in stranger["server"]["found"]
        code, elsewhere = examine(tmp_path, env=env)
        assert code == 1
        assert "is held by another hub" in elsewhere["port"]["found"]
    assert examine(project)[1]["server"]["found"] == "none runs on this data folder"


def test_the_doctor_looks_at_one_plugin(project: Path) -> None:
    _, found = examine(project, "webhook")
    assert found.keys() == {"plugin webhook", "used by"}
    assert found["used by"]["found"] == "flows/first.hub.yaml"
    unknown = hub_command("doctor", "webhok", cwd=project)
    assert (unknown.returncode, 'did you mean "webhook"?' in unknown.stderr) == (4, True)


def test_the_doctor_names_settings_that_are_wrong(tmp_path: Path) -> None:
    (tmp_path / "hub.yaml").write_text("server: {port: many}\n")
    code, found = examine(tmp_path, env={"HUB_PORT": ""})
    assert code == 1
    assert "hub.yaml:1:16" in found["settings"]["found"]


# -- both names, help and Tab


def _commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    yield " ".join(path) or "hub", command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from _commands(below, (*path, name))


@pytest.mark.parametrize(("path", "command"), [pytest.param(*one, id=one[0]) for one in _commands(cli)])
def test_every_command_and_option_says_what_it_does(path: str, command: click.Command) -> None:
    assert command.help
    listed = command.get_help(click.Context(command, info_name=path)).partition("\nCommands:\n")[2]
    assert "..." not in listed, "a sentence is too long for the list"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{path} {parameter.opts[0]}"


@pytest.mark.parametrize("name", ["hub", "asynchub"])
def test_each_name_calls_itself_by_it(name: str, tmp_path: Path) -> None:
    def call(*arguments: str) -> Any:
        return subprocess.run(
            [BIN / name, *arguments], cwd=tmp_path, env=environment(), capture_output=True, text=True
        )

    assert call("--version").stdout.startswith(f"{name} ")
    assert call("init", "--help").stdout.startswith(f"Usage: {name} init ")
    assert f"\n  {name} serve " in call("init", ".").stdout


_TAB = """
set -e
eval "$(asynchub completion bash)"
tab() {
    COMP_WORDS=("$@") COMP_CWORD=$(( $# - 1 )) COMPREPLY=()
    local found; found=$(complete -p "$1"); found=${found#*-F }
    "${found%% *}" "$1" 2>/dev/null || true
    echo "${COMPREPLY[*]}"
}
"""


def tab(folder: Path, *words: str, env: dict[str, str] | None = None) -> list[str]:
    """What a real bash offers for the last of the words."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", _TAB + 'tab "$@"', "bash", *words],
        cwd=folder,
        env=environment(PATH=path, **(env or {})),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.parametrize("name", ["hub", "asynchub"])
def test_tab_completes_commands_options_and_blueprints(name: str, tmp_path: Path) -> None:
    assert tab(tmp_path, name, "blue") == ["blueprints"]
    assert tab(tmp_path, name, "init", "--f") == ["--force"]
    assert tab(tmp_path, name, "blueprints", "use", "he") == ["hello"]
    assert tab(tmp_path, name, "doctor", "sql") == ["sqlite"]


def test_tab_completes_flows_and_executions_of_a_running_hub(project: Path) -> None:
    assert tab(project, "hub", "executions", "get", "") == ["last"]
    with HubProcess(project):
        id = hub_command("run", "demo/first", "--detach", cwd=project).stdout.strip()
        for name in ("hub", "asynchub"):
            assert tab(project, name, "run", "demo/f") == ["demo/first"]
            assert tab(project, name, "executions", "list", "--flow", "") == ["demo/first"]
            assert id in tab(project, name, "executions", "logs", id[:13])
        assert tab(project.parent, "hub", "run", "--data-folder", str(project), "d") == ["demo/first"]


@pytest.mark.parametrize(("shell", "words"), [("zsh", "compdef"), ("fish", "complete --no-files")])
def test_other_shells_get_a_script_for_both_names(shell: str, words: str, tmp_path: Path) -> None:
    script = hub_command("completion", shell, cwd=tmp_path).stdout
    assert script.count(words) >= 2
    for name in ("hub", "asynchub"):
        assert f"_{name.upper()}_COMPLETE={shell}_complete" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n", "-c", script], check=True)
    assert hub_command("completion", "tcsh", cwd=tmp_path).returncode == 2
