"""Flows in files here and in a hub there: push, pull, diff, get, delete, revisions."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub_process import START, HubProcess, hub_command


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub of which each test uses a namespace of its own."""
    with HubProcess(tmp_path_factory.mktemp("hub")) as running:
        yield running


class Desk:
    """A folder of flow files, and the command against a hub."""

    def __init__(self, folder: Path, hub: HubProcess, namespace: str) -> None:
        self.folder = folder
        self.flows = folder / "flows"
        self.hub = hub
        self.namespace = namespace

    def write(
        self, id: str, value: str = "1", *, name: str | None = None, namespace: str | None = None
    ) -> Path:
        path = self.flows / (name or f"{id}.hub.yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source_of(namespace or self.namespace, id, value))
        return path

    def run(self, *arguments: str, code: int = 0, env: dict[str, str] | None = None) -> Any:
        done = hub_command(
            "flows", *arguments, cwd=self.folder, env={"HUB_SERVER": self.hub.url, **(env or {})}
        )
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done

    def served(self, id: str, namespace: str | None = None) -> bytes | None:
        answer = self.hub.call("GET", f"/api/v1/flows/{namespace or self.namespace}/{id}")
        return answer.raw if answer.status == 200 else None

    def put(self, id: str, value: str) -> None:
        path = f"/api/v1/flows/{self.namespace}/{id}"
        assert self.hub.call("PUT", path, source_of(self.namespace, id, value)).status in (200, 201)


def source_of(namespace: str, id: str, value: str) -> bytes:
    text = f"# é kept\nid: {id}\nnamespace: {namespace}\ntasks: [{{id: t, type: return, value: '{value}'}}]\n"
    return text.encode()


@pytest.fixture
def desk(tmp_path: Path, hub: HubProcess, request: pytest.FixtureRequest) -> Desk:
    (tmp_path / "flows").mkdir()
    return Desk(tmp_path, hub, request.node.name.split("[")[0].replace("test_", "n-")[:100])


# -- push


def test_push_sends_what_differs_and_a_second_push_nothing(desk: Desk) -> None:
    desk.write("a")
    crlf = desk.write("b")
    crlf.write_bytes(crlf.read_bytes().replace(b"\n", b"\r\n").rstrip())
    first = desk.run("push")
    assert first.stdout.count("created ") == 2
    assert f"{desk.namespace}/a (revision 1)  flows/a.hub.yaml" in first.stdout
    assert desk.served("b") == crlf.read_bytes()
    second = desk.run("push", "-o", "json")
    assert [one["outcome"] for one in json.loads(second.stdout)] == ["unchanged", "unchanged"]
    desk.write("a", "2")
    third = desk.run("push", "flows/a.hub.yaml", "flows/b.hub.yaml")
    assert f"changed      {desk.namespace}/a (revision 2)" in third.stdout
    assert f"unchanged    {desk.namespace}/b (revision 1)" in third.stdout
    assert third.stderr == "1 changed, 1 unchanged\n"


def test_push_sends_nothing_when_one_file_is_wrong_and_does_not_need_the_hub_to_know(desk: Desk) -> None:
    desk.write("a")
    desk.write("b").write_text(f"id: b\nnamespace: {desk.namespace}\ntasks: [{{id: t, type: lgo}}]\n")
    for env in ({}, {"HUB_SERVER": "http://127.0.0.1:9"}):
        done = desk.run("push", code=3, env=env)
        assert "flows/b.hub.yaml:3:23  error: unknown task type" in done.stderr
        assert done.stdout == ""
    assert desk.served("a") is None


def test_two_files_of_one_flow_are_refused(desk: Desk) -> None:
    desk.write("a")
    desk.write("a", "2", name="other.hub.yaml")
    assert "is declared in flows/a.hub.yaml too" in desk.run("push", code=3).stderr


def test_push_deletes_only_with_prune_and_only_in_the_same_namespaces(desk: Desk) -> None:
    for id in ("kept", "gone"):
        desk.write(id)
    desk.write("far", namespace=f"{desk.namespace}.other", name="far.hub.yaml")
    desk.run("push")
    (desk.flows / "gone.hub.yaml").unlink()
    (desk.flows / "far.hub.yaml").unlink()
    plain = desk.run("push")
    assert f"no file declares {desk.namespace}/gone: --prune would delete them" in plain.stderr
    assert desk.served("gone")
    dry = desk.run("push", "--prune", "--dry-run")
    assert f"would delete {desk.namespace}/gone (revision 1)" in dry.stdout
    assert desk.served("gone")
    pruned = desk.run("push", "--prune")
    announced = pruned.stderr.index(
        f"1 flow that no file declares, to be deleted:\n  {desk.namespace}/gone (revision 1)\n"
    )
    assert announced < pruned.stderr.index("1 unchanged, 1 deleted")
    assert f"deleted      {desk.namespace}/gone (revision 1)" in pruned.stdout
    assert desk.served("gone") is None
    assert desk.served("kept")
    other = f"{desk.namespace}.other"
    assert desk.served("far", other)
    named = desk.run("push", "--prune", "--namespace", other)
    assert "kept" not in named.stdout
    assert desk.served("far", other) is None
    assert desk.served("kept")


def test_a_dry_run_changes_nothing(desk: Desk) -> None:
    desk.write("a")
    desk.put("b", "1")
    desk.write("b", "2")
    done = desk.run("push", "--dry-run")
    assert f"would create {desk.namespace}/a  flows/a.hub.yaml" in done.stdout
    assert f"would change {desk.namespace}/b (revision 1)" in done.stdout
    assert desk.served("a") is None
    assert desk.served("b") == source_of(desk.namespace, "b", "1")


@pytest.mark.parametrize(
    ("answer", "arguments", "code", "is_deleted"),
    [("n\n", [], 1, False), ("\n", [], 1, False), ("y\n", [], 0, True), (None, ["--yes"], 0, True)],
)
def test_a_person_at_a_terminal_is_asked_before_a_flow_is_deleted(
    desk: Desk, answer: str | None, arguments: list[str], code: int, is_deleted: bool
) -> None:
    for id in ("kept", "gone"):
        desk.put(id, "1")
    desk.write("kept", "2")
    said, ended = at_a_terminal(
        [*START, "flows", "push", "--prune", *arguments, "--server", desk.hub.url], desk.folder, answer
    )
    assert ended == code, said
    assert f"{desk.namespace}/gone (revision" in said
    assert ("Delete? [y/N]" in said) == (answer is not None)
    assert (desk.served("gone") is None) == is_deleted
    # a no is a no to everything: nothing was sent either
    assert (desk.served("kept") == source_of(desk.namespace, "kept", "2")) == is_deleted


def at_a_terminal(command: list[str], cwd: Path, answer: str | None) -> tuple[str, int]:
    """Run a command at a terminal of its own, type an answer to its question, and read all it says."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, cwd=cwd, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""
    try:
        while True:
            if answer is not None and b"[y/N]" in said:
                os.write(ours, answer.encode())
                answer = None
            said += os.read(ours, 4096)
    except OSError:
        # the last one at the other side has gone
        pass
    finally:
        os.close(ours)
    return said.decode().replace("\r\n", "\n"), process.wait(60)


def test_progress_is_drawn_at_a_terminal_and_nowhere_else(desk: Desk) -> None:
    for number in range(12):
        desk.write(f"f{number}")
    command = [*START, "flows", "push", "--server", desk.hub.url]
    said, ended = at_a_terminal(command, desk.folder, None)
    assert (ended, "pushing" in said) == (0, True)
    quiet = desk.run("push")
    assert quiet.stderr == "12 unchanged\n"


@pytest.fixture
def plugin(tmp_path: Path) -> dict[str, str]:
    """An environment with a plugin that the hub lacks."""
    site = tmp_path / "site"
    info = site / "asynchub_tiny-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: asynchub-tiny\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[hub.plugins]\ntiny = asynchub_tiny\n")
    (site / "asynchub_tiny.py").write_text(
        "from typing import ClassVar\n"
        "from hub.plugin import Task, TaskContext, hookimpl\n\n"
        "class Nod(Task):\n"
        '    """Nod."""\n\n'
        '    type: ClassVar[str] = "tiny.nod"\n\n'
        "    async def run(self, ctx: TaskContext) -> None: ...\n\n"
        "@hookimpl\n"
        "def register_tasks():\n    return [Nod]\n"
    )
    return {"PYTHONPATH": str(site)}


def test_what_the_hub_refuses_is_named_by_file_the_rest_is_sent_and_nothing_is_deleted(
    desk: Desk, plugin: dict[str, str]
) -> None:
    desk.put("gone", "1")
    desk.write("a")
    desk.write("b").write_text(f"id: b\nnamespace: {desk.namespace}\ntasks:\n  - {{id: t, type: tiny.nod}}\n")
    desk.write("c")
    done = desk.run("push", "--prune", code=3, env=plugin)
    assert 'flows/b.hub.yaml:4:19  error: unknown task type "tiny.nod"' in done.stderr
    assert f"not tried any more: {desk.namespace}/gone" in done.stderr
    assert f"failed       {desk.namespace}/b" in done.stdout
    assert desk.served("a")
    assert desk.served("c")
    assert desk.served("gone")


def test_a_flow_of_the_hubs_own_folder_is_left_alone(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for id in ("same", "differs", "more"):
        (own / f"{id}.hub.yaml").write_bytes(source_of("mine", id, "1"))
    (tmp_path / "desk").mkdir()
    with HubProcess(tmp_path, flows=own) as hub:
        desk = Desk(tmp_path / "desk", hub, "mine")
        desk.write("same", "1")
        desk.write("new", "1")
        assert "unchanged    mine/same" in desk.run("push").stdout
        desk.write("differs", "2")
        done = desk.run("push", "--prune", code=7)
        assert "skipped      mine/differs" in done.stdout
        assert f"mine/differs belongs to the hub's own file {own}/differs.hub.yaml" in done.stderr
        assert f"left alone: mine/more belongs to the hub's own file {own}/more.hub.yaml" in done.stderr
        assert "mine/more" not in done.stdout
        assert desk.served("differs") == source_of("mine", "differs", "1")
        assert desk.served("more")
        assert json.loads(desk.run("diff", "-o", "json", code=9).stdout)[0]["origin"] == str(
            own / "differs.hub.yaml"
        )
        assert "belongs to the file" in desk.run("delete", "mine/more", code=7).stderr


# -- diff


def test_diff_shows_each_change_and_exits_with_9(desk: Desk) -> None:
    desk.put("a", "1")
    desk.put("gone", "1")
    desk.write("a", "1")
    assert desk.run("diff").stdout == ""
    desk.write("a", "2")
    desk.write("b").write_bytes(source_of(desk.namespace, "b", "1").rstrip())
    done = desk.run("diff", code=9)
    assert done.stdout.split("\n")[:3] == [
        f"--- {desk.namespace}/a (revision 1)",
        "+++ flows/a.hub.yaml",
        "@@ -1,4 +1,4 @@",
    ]
    assert (
        "\n-tasks: [{id: t, type: return, value: '1'}]\n+tasks: [{id: t, type: return, value: '2'}]\n"
        in done.stdout
    )
    assert "--- /dev/null\n+++ flows/b.hub.yaml\n" in done.stdout
    assert done.stdout.endswith("\n\\ No newline at end of file\n")
    assert "gone" not in done.stdout
    assert done.stderr == "2 flows differ\n"
    pruned = json.loads(desk.run("diff", "--prune", "-o", "json", code=9).stdout)
    assert [(one["id"], one["change"], one["file"]) for one in pruned] == [
        ("a", "change", "flows/a.hub.yaml"),
        ("b", "create", "flows/b.hub.yaml"),
        ("gone", "delete", None),
    ]
    assert f"--- {desk.namespace}/gone (revision 1)\n+++ /dev/null\n" in pruned[2]["diff"]
    desk.run("push", "--prune")
    assert json.loads(desk.run("diff", "--prune", "-o", "json").stdout) == []


def test_a_diff_tells_line_ends_apart(desk: Desk) -> None:
    desk.put("a", "1")
    path = desk.write("a", "1")
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    shown = json.loads(desk.run("diff", "-o", "json", code=9).stdout)[0]["diff"]
    assert shown.count("\r\n") == 4
    assert "-id: a\n" in shown
    assert "+id: a\r\n" in shown


# -- pull


def test_pull_writes_byte_for_byte_and_what_was_pulled_does_not_differ(desk: Desk) -> None:
    desk.put("a", "1")
    desk.put("b", "1")
    own = desk.write("b", "1", name="my own name.hub.yaml")
    options = ("--namespace", desk.namespace)
    done = desk.run("pull", *options)
    path = desk.flows / desk.namespace / "a.hub.yaml"
    assert path.read_bytes() == source_of(desk.namespace, "a", "1")
    assert f"written      {desk.namespace}/a (revision 1)  flows/{desk.namespace}/a.hub.yaml" in done.stdout
    assert f"unchanged    {desk.namespace}/b (revision 1)  flows/my own name.hub.yaml" in done.stdout
    desk.run("diff", "--prune")
    desk.put("b", "2")
    assert "overwritten " in desk.run("pull", *options).stdout
    assert own.read_bytes() == source_of(desk.namespace, "b", "2")
    assert sorted(one.name for one in desk.flows.rglob("*") if one.is_file()) == [
        "a.hub.yaml",
        "my own name.hub.yaml",
    ]


def test_what_cannot_be_written_is_named_after_what_was(desk: Desk) -> None:
    desk.put("a", "1")
    desk.put("b", "1")
    # a folder where a file should go
    (desk.flows / desk.namespace / "b.hub.yaml" / "c").mkdir(parents=True)
    done = desk.run("pull", "--namespace", desk.namespace, code=1)
    assert f"written      {desk.namespace}/a" in done.stdout
    assert f"failed       {desk.namespace}/b" in done.stdout
    assert f"flows/{desk.namespace}/b.hub.yaml cannot be read" in done.stderr


@pytest.mark.parametrize("text", ["more", "id: [not yaml"])
def test_pull_leaves_a_file_that_was_changed_here(desk: Desk, text: str) -> None:
    desk.put("a", "1")
    desk.put("b", "1")
    folder = desk.folder / "copy"
    changed = folder / desk.namespace / "a.hub.yaml"
    changed.parent.mkdir(parents=True)
    changed.write_text(text)
    options = ("pull", "copy", "--namespace", desk.namespace)
    done = desk.run(*options, code=7)
    assert f"copy/{desk.namespace}/a.hub.yaml has changes that the hub does not know" in done.stderr
    assert f"skipped      {desk.namespace}/a" in done.stdout
    assert f"written      {desk.namespace}/b" in done.stdout
    assert changed.read_text() == text
    assert f"overwritten  {desk.namespace}/a" in desk.run(*options, "--force").stdout
    assert changed.read_bytes() == source_of(desk.namespace, "a", "1")


def test_pull_never_writes_outside_its_folder_whatever_a_hub_answers(tmp_path: Path) -> None:
    class Hostile(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            one = {"namespace": "..", "id": "../evil", "revision": 1, "origin": None, "sourceHash": "x"}
            raw = json.dumps({"items": [one], "broken": []}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *arguments: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        (tmp_path / "in").mkdir()
        url = f"http://127.0.0.1:{server.server_port}"
        done = hub_command("flows", "pull", "in", "--server", url, cwd=tmp_path)
    finally:
        server.shutdown()
        server.server_close()
    assert done.returncode == 3
    assert "cannot be a flow's name" in done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# -- get, revisions, delete


def test_a_flow_is_got_by_revision_listed_and_deleted(desk: Desk) -> None:
    name = f"{desk.namespace}/a"
    desk.put("a", "1")
    desk.put("a", "2")
    assert desk.run("get", name).stdout.encode() == source_of(desk.namespace, "a", "2")
    assert desk.run("get", name, "--revision", "1").stdout.encode() == source_of(desk.namespace, "a", "1")
    view = json.loads(desk.run("get", name, "--revision", "1", "-o", "json").stdout)
    assert (view["namespace"], view["id"], view["revision"]) == (desk.namespace, "a", 1)
    assert view["source"].encode() == source_of(desk.namespace, "a", "1")
    assert desk.run("revisions", name, "-o", "name").stdout == "2\n1\n"
    assert desk.run("delete", name).stdout == f"deleted {name}\n"
    for command in ("get", "delete"):
        assert f"no flow {name}" in desk.run(command, name, code=4).stderr
    assert desk.run("get", name, "--revision", "2").stdout


def test_a_name_that_is_none_is_a_usage_error(desk: Desk) -> None:
    for name in ("a", "a/b/c", "../a", "a/"):
        assert "expected NAMESPACE/FLOW" in desk.run("get", name, code=2).stderr


def test_exit_codes_tell_a_wrong_token_from_no_hub(tmp_path: Path) -> None:
    with HubProcess(tmp_path, env={"HUB_TOKEN": "let-me-in"}) as hub:
        desk = Desk(tmp_path, hub, "t")
        desk.write("a")
        (tmp_path / "token").write_text("let-me-in\n")
        for command in ("push", "diff", "pull"):
            assert "needs a token" in desk.run(command, code=5).stderr
            assert (
                "no hub answers" in desk.run(command, code=6, env={"HUB_SERVER": "http://127.0.0.1:9"}).stderr
            )
        desk.run("push", env={"HUB_TOKEN_FILE": str(tmp_path / "token")})
        desk.run("diff", env={"HUB_TOKEN": "let-me-in"})


def test_a_path_without_flows_is_not_found(desk: Desk) -> None:
    assert "no *.hub.yaml file below flows" in desk.run("push", "--prune", code=4).stderr
    assert "does not exist" in desk.run("push", "nope", code=4).stderr
