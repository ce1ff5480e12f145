"""The HTTP API: who is let in, what it answers, what a killed hub's next start finds."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import time
from pathlib import Path

import pytest

from tests.support.hub_process import HubProcess

ROOT = Path(__file__).parent.parent.parent
_FLOW = "id: a\nnamespace: api\nlabels: {team: x}\ninputs: [{id: n, type: INT, defaults: 1}]\ntasks: [{id: t, type: return, value: '{{ inputs.n }}'}]\n"


def test_a_flow_is_put_read_back_byte_for_byte_and_started(hub: HubProcess) -> None:
    source = "# a comment\n" + _FLOW
    put = hub.call("PUT", "/api/v1/flows/api/a", source.encode())
    assert (put.status, put.json["revision"], put.json["changed"]) == (201, 1, True)
    again = hub.call("PUT", "/api/v1/flows/api/a", source.encode())
    assert (again.status, again.json["revision"], again.json["changed"]) == (200, 1, False)
    assert hub.call("GET", "/api/v1/flows/api/a").raw == source.encode()
    started = hub.call("POST", "/api/v1/flows/api/a/executions", {"inputs": {"n": 4}, "labels": {"by": "me"}})
    assert started.status == 201
    ended = hub.ended(started.json["id"])
    assert (ended["state"], ended["inputs"], ended["labels"]) == (
        "SUCCESS",
        {"n": 4},
        {"team": "x", "by": "me"},
    )
    run = ended["taskRuns"][0]
    assert {key: run[key] for key in ("path", "task", "type", "state", "attempts", "outputs")} == {
        "path": "t", "task": "t", "type": "return", "state": "SUCCESS", "attempts": 1, "outputs": {"value": 4},
    }  # fmt: skip
    assert hub.call("DELETE", "/api/v1/flows/api/a").status == 204
    assert hub.call("GET", "/api/v1/flows/api/a").status == 404
    assert hub.call("GET", f"/api/v1/executions/{started.json['id']}").status == 200


def test_a_bad_flow_is_refused_with_every_problem(hub: HubProcess) -> None:
    answer = hub.call(
        "PUT", "/api/v1/flows/api/b", b"id: b\nnamespace: api\ntasks: [{id: x, type: lgo}, {id: x}]"
    )
    assert (answer.status, answer.json["code"]) == (422, "invalid_flow")
    assert len(answer.json["details"]) >= 3
    assert answer.json["details"][0]["line"] == 3


def test_bad_questions_are_answered_in_one_shape(hub: HubProcess) -> None:
    for path, status in (
        ("/api/v1/executions/nope", 404),
        ("/api/v1/executions?limit=0", 422),
        ("/api/v1/executions?state=ODD", 422),
        ("/api/v1/executions?cursor=x", 422),
        ("/api/v1/executions?since=soon", 422),
        ("/api/v1/nope", 404),
    ):
        answer = hub.call("GET", path)
        assert (answer.status, set(answer.json)) == (status, {"code", "message", "hint", "details"}), path


def test_health_metrics_schema_and_openapi_are_there(hub: HubProcess) -> None:
    assert hub.call("GET", "/health/live").status == 200
    assert hub.call("GET", "/health/ready").status == 200
    assert b"# HELP" in hub.call("GET", "/metrics").raw
    assert hub.call("GET", "/api/v1/schemas/flow.json").json["title"] == "asynchub flow"
    document = hub.call("GET", "/api/v1/openapi.json").json
    assert document["openapi"].startswith("3.1")
    assert "/api/v1/executions/{id}" in document["paths"]


def test_without_a_token_pages_of_other_sites_are_kept_out(hub: HubProcess) -> None:
    assert hub.call("GET", "/api/v1/flows", headers={"Host": "evil.test"}).status == 421
    assert hub.call("GET", "/api/v1/flows", headers={"Origin": "http://evil.test"}).status == 403
    assert hub.call("GET", "/api/v1/flows", headers={"Origin": hub.url}).status == 200


def test_with_a_token_everything_but_health_and_webhooks_needs_it(tmp_path: Path) -> None:
    flows = tmp_path / "flows"
    flows.mkdir()
    (flows / "w.hub.yaml").write_text(
        "id: w\nnamespace: api\ntriggers: [{id: h, type: webhook, key: k}]\ntasks: [{id: t, type: log, message: x}]\n"
    )
    (tmp_path / "token").write_text("let-me-in\n")
    with HubProcess(tmp_path, flows=flows, env={"HUB_TOKEN_FILE": str(tmp_path / "token")}) as hub:
        for path in (
            "/api/v1/flows",
            "/metrics",
            "/api/v1/openapi.json",
            "/nope",
            "/api/v1/webhooks/api/nope/k",
        ):
            assert hub.call("GET", path).status == 401, path
        for given in ("Bearer wrong", "let-me-in", "Basic let-me-in", "Bearer let-me-in-too"):
            assert hub.call("GET", "/api/v1/flows", headers={"Authorization": given}).status == 401
        assert hub.call("GET", "/api/v1/flows", headers={"Authorization": "Bearer let-me-in"}).status == 200
        assert hub.call("GET", "/health/ready").status == 200
        assert hub.call("POST", "/api/v1/webhooks/api/w/k", {}).status == 202


def test_what_a_killed_hub_left_running_is_gone_when_the_next_is_ready(tmp_path: Path) -> None:
    flows, pids = tmp_path / "flows", tmp_path / "pids"
    flows.mkdir()
    (flows / "s.hub.yaml").write_text(
        "id: s\nnamespace: api\ntasks:\n  - id: t\n    type: script.shell\n    script: |\n"
        f"      if [ -e {pids} ]; then exit 0; fi\n      trap '' TERM\n      setsid sleep 300 &\n"
        f"      echo $! > {pids}.new; echo $$ >> {pids}.new; mv {pids}.new {pids}\n      sleep 300\n"
    )
    hub = HubProcess(tmp_path, flows=flows)
    hub.start()
    execution = hub.call("POST", "/api/v1/flows/api/s/executions", {}).json["id"]
    until = time.monotonic() + 15
    while not pids.exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    left = [int(line) for line in pids.read_text().split()]
    hub.kill()
    assert all(Path(f"/proc/{pid}").exists() for pid in left)
    hub.start()
    try:
        assert not [pid for pid in left if _is_running(pid)]
        assert hub.ended(execution)["state"] == "SUCCESS"
    finally:
        hub.stop()


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except OSError:
        return False


def test_the_github_blueprint_runs_to_its_end(tmp_path: Path) -> None:
    flows = tmp_path / "flows"
    flows.mkdir()
    with HubProcess(tmp_path, flows=flows, env={"HUB_SECRET_GITHUB_WEBHOOK_SECRET": "shh"}) as hub:
        for path in (*ROOT.glob("blueprints/hello/*.yaml"), *ROOT.glob("blueprints/github-push/*.yaml")):
            text = path.read_text().replace("127.0.0.1:8484", f"127.0.0.1:{hub.port}")
            hub_path = "demo.github/push" if "push" in path.name else "demo/hello"
            assert hub.call("PUT", f"/api/v1/flows/{hub_path}", text.encode()).status == 201
        body = {
            "ref": "refs/heads/main", "repository": {"full_name": "ada/engine"}, "pusher": {"name": "ada"},
            "commits": [{"message": "first\n\nmore"}, {"message": "second"}],
        }  # fmt: skip
        raw = json.dumps(body).encode()
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Delivery": "1",
            "X-Hub-Signature-256": "sha256=" + hmac.new(b"shh", raw, hashlib.sha256).hexdigest(),
        }
        answer = hub.call("POST", "/api/v1/webhooks/demo.github/push/push", raw, headers)
        ended = hub.ended(answer.json["executionIds"][0])
        assert (ended["error"], ended["outputs"]) == (None, {"titles": ["first", "second"]})
        greeted = hub.all_of("/api/v1/executions?namespace=demo")[0]
        assert hub.ended(greeted["id"])["taskRuns"][0]["outputs"] == {"value": "Hello, ada, 2 commits!"}


@pytest.mark.parametrize("signal_name", ["SIGTERM", "SIGINT"])
def test_a_stopped_hub_hands_back_what_runs_and_exits_with_0(tmp_path: Path, signal_name: str) -> None:
    import signal

    flows = tmp_path / "flows"
    flows.mkdir()
    (flows / "s.hub.yaml").write_text(
        f"id: s\nnamespace: api\ntasks: [{{id: t, type: script.shell, script: 'touch {tmp_path}/on; sleep 1; exit 0'}}]\n"
    )
    hub = HubProcess(tmp_path, flows=flows)
    hub.start()
    execution = hub.call("POST", "/api/v1/flows/api/s/executions", {}).json["id"]
    until = time.monotonic() + 15
    while not (tmp_path / "on").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    assert hub.process is not None
    hub.process.send_signal(getattr(signal, signal_name))
    assert hub.process.wait(40) == 0
    with hub:
        assert hub.ended(execution)["state"] == "SUCCESS"


def test_a_reader_that_leaves_a_stream_is_no_failure(tmp_path: Path) -> None:
    flows = tmp_path / "flows"
    flows.mkdir()
    (flows / "talk.hub.yaml").write_text(
        "id: talk\nnamespace: api\ntasks:\n  - id: t\n    type: script.python\n    script: |\n"
        "      import time\n      for n in range(100):\n"
        "          print('line', n, flush=True)\n          time.sleep(0.01)\n"
    )
    with HubProcess(tmp_path, flows=flows) as hub:
        execution = hub.call("POST", "/api/v1/flows/api/talk/executions", {}).json["id"]
        for path in ("/stream", "/logs?follow=true"):
            with socket.create_connection(("127.0.0.1", hub.port), timeout=30) as reader:
                request = (
                    f"GET /api/v1/executions/{execution}{path} HTTP/1.1\r\nHost: 127.0.0.1:{hub.port}\r\n\r\n"
                )
                reader.sendall(request.encode())
                seen = b""
                while b"line 0" not in seen:
                    seen += reader.recv(4096)
        assert hub.ended(execution)["state"] == "SUCCESS"
        assert "request failed" not in hub.log.read_text()
        assert "Traceback" not in hub.log.read_text()


def test_nobody_else_reads_what_the_hub_keeps(tmp_path: Path) -> None:
    data, flows = tmp_path / "data", tmp_path / "flows"
    data.mkdir(mode=0o755)
    flows.mkdir()
    (flows / "w.hub.yaml").write_text(
        "id: w\nnamespace: api\ntriggers: [{id: h, type: webhook, key: k}]\n"
        "tasks: [{id: t, type: script.shell, script: 'echo x > made; umask'}]\n"
    )
    for old in ("hub.db", "hub.instance"):
        (data / old).touch(mode=0o644)
    (data / "hub.instance").write_text("0199-old")
    with HubProcess(data, flows=flows) as hub:
        text = {"Content-Type": "text/plain"}
        answer = hub.call("POST", "/api/v1/webhooks/api/w/k", b"x" * 100_000, text)
        hub.ended(answer.json["executionIds"][0])
        kept = [path for path in data.rglob("*") if path != hub.log]
        names = {path.name for path in kept}
        assert {"hub.db", "hub.db-wal", "hub.db-shm", "hub.address", "hub.instance", "hub.lock"} <= names
        assert any(path.name.endswith("-event.json") for path in kept), names
        open_to_others = {str(path): oct(path.stat().st_mode) for path in kept if path.stat().st_mode & 0o077}
        assert open_to_others == {}
