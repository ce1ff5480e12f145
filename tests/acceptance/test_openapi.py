"""The OpenAPI document against a real hub: whatever is sent, no answer is a 5xx or other than the document says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error

from hub.api.application import ROUTES
from tests.support.hub_process import HubProcess

_CONFIG = Path(__file__).with_name("schemathesis.toml")
_TOKEN = "let-me-in"
_FLOWS = {
    "echo": """id: echo
namespace: open
triggers:
  - {id: hook, type: webhook, key: k}
  - {id: tick, type: schedule.every, interval: PT1S}
  - {id: news, type: event.matched, event: "*"}
inputs: [{id: name, type: STRING, required: false}]
tasks:
  - {id: say, type: log, message: "{{ inputs.name ?? 'nobody' }}"}
  - {id: give, type: return, value: "{{ inputs.name ?? 'nobody' }}"}
""",
    "fail": """id: fail
namespace: open.sub
labels: {team: ours}
triggers: [{id: hook, type: webhook, key: k}]
tasks: [{id: no, type: execution.fail, message: it was asked for}]
""",
}


def _hub(folder: Path, token: str | None) -> Iterator[HubProcess]:
    (folder / "flows").mkdir()
    for name, source in _FLOWS.items():
        (folder / "flows" / f"{name}.hub.yaml").write_text(source)
    env = {"HUB_TOKEN": token} if token else {}
    with HubProcess(folder, flows=folder / "flows", env=env) as running:
        for name in ("open/echo", "open.sub/fail"):
            running.call("POST", f"/api/v1/webhooks/{name}/k", {"n": 1})
        yield running
        # said in full to the operator, whatever the caller was told
        assert "request failed" not in running.log.read_text()
        assert "Traceback" not in running.log.read_text()


@pytest.fixture(params=[None, _TOKEN], ids=["open", "token"])
def hub(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[HubProcess]:
    yield from _hub(tmp_path, request.param)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    yield from _hub(tmp_path_factory.mktemp("guarded"), _TOKEN)


def _try_out(hub: HubProcess, headers: dict[str, str], seconds: int) -> None:
    command = [
        *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
        *("--config-file", str(_CONFIG), "run", f"{hub.url}/api/v1/openapi.json"),
        *("--max-time", str(seconds), "--exclude-path-regex", "/api/v1/(stream|reload)"),
    ]
    for name, value in headers.items():
        command += ["--header", f"{name}: {value}"]
    done = subprocess.run(
        command, cwd=hub.data, capture_output=True, text=True, timeout=seconds * 2 + 120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Tested:" in done.stdout


def _headers(hub: HubProcess) -> dict[str, str]:
    return {"Authorization": f"Bearer {_TOKEN}"} if "HUB_TOKEN" in hub.env else {}


def test_the_api_keeps_to_its_document(hub: HubProcess) -> None:
    _try_out(hub, _headers(hub), 18)


@pytest.mark.faults
def test_the_api_keeps_to_its_document_for_ten_minutes(hub: HubProcess) -> None:
    _try_out(hub, _headers(hub), 600)


def _operations() -> list[tuple[str, str]]:
    return [(route.method, route.path) for route in ROUTES if not route.is_hidden]


def _schema(hub: HubProcess) -> Any:
    return schemathesis.openapi.from_url(f"{hub.url}/api/v1/openapi.json", headers=_headers(hub))


@pytest.fixture(scope="module")
def guarded_schema(guarded: HubProcess) -> Any:
    return _schema(guarded)


@pytest.mark.parametrize(("method", "path"), _operations())
def test_whatever_is_asked_without_the_token_is_401(guarded_schema: Any, method: str, path: str) -> None:
    """Default deny: only health is open, and webhooks of flows that are loaded, which no made-up name is."""
    open_to_all = path.startswith("/health/")

    @given(case=guarded_schema[path][method].as_strategy())
    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def try_out(case: Any) -> None:
        case.headers = {k: v for k, v in (case.headers or {}).items() if k.lower() != "authorization"}
        answer = requests.request(**case.as_transport_kwargs(), timeout=20)
        if open_to_all:
            assert answer.status_code == 200
        else:
            assert (answer.status_code, answer.json()["code"]) in (
                (401, "unauthorized"),
                (400, "bad_request"),
            )

    try_out()


def test_the_stream_keeps_to_its_document(guarded: HubProcess, guarded_schema: Any) -> None:
    """A stream never ends: its head and its first line are looked at."""
    operation = guarded_schema["/api/v1/stream"]["GET"]

    @given(case=operation.as_strategy())
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def try_out(case: Any) -> None:
        case.headers = {**(case.headers or {}), **_headers(guarded)}
        with requests.request(**case.as_transport_kwargs(), stream=True, timeout=20) as answer:
            if answer.status_code == 200:
                assert answer.headers["Content-Type"] == "text/event-stream"
                first = next(answer.iter_lines())
                assert first.startswith((b"event: ", b"id: ", b":")), first
            else:
                case.validate_response(answer, checks=[not_a_server_error])
                assert (answer.status_code, set(answer.json())) == (
                    422,
                    {"code", "message", "hint", "details"},
                )

    try_out()
