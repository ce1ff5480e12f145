"""Built-in tasks and triggers keep the contracts of their kinds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hub.registry import load_plugins
from hub.testing import HttpReceiver, Source, TaskContract, TriggerContract, TriggerRun

REGISTRY = load_plugins({})


class TestReturn(TaskContract):
    task = REGISTRY.tasks["return"]

    @pytest.fixture
    def fields(self) -> Mapping[str, Any]:
        return {"value": {"n": [1, 2, None]}}


class TestHttpRequest(TaskContract):
    task = REGISTRY.tasks["http.request"]

    @pytest.fixture
    def fields(self, http_receiver: HttpReceiver) -> Mapping[str, Any]:
        http_receiver.answer(200, {"ok": True})
        return {"uri": http_receiver.url, "method": "POST", "headers": {"X-Id": "1"}}

    @pytest.fixture
    def slow_fields(self, http_receiver: HttpReceiver) -> Mapping[str, Any]:
        http_receiver.answer(200, after=60)
        return {"uri": http_receiver.url}


class TestShell(TaskContract):
    task = REGISTRY.tasks["script.shell"]

    @pytest.fixture
    def fields(self) -> Mapping[str, Any]:
        return {"script": "echo hello", "env": {"A": "b"}}

    @pytest.fixture
    def slow_fields(self) -> Mapping[str, Any]:
        return {"script": "sleep 60 & sleep 60"}


class TestPython(TaskContract):
    task = "script.python"

    @pytest.fixture
    def fields(self) -> Mapping[str, Any]:
        return {"script": "print(6 * 7)"}

    @pytest.fixture
    def slow_fields(self) -> Mapping[str, Any]:
        return {"script": "import time; time.sleep(60)"}


class TestLog(TaskContract):
    task = "log"

    @pytest.fixture
    def fields(self) -> Mapping[str, Any]:
        return {"message": ["one", "two"], "level": "WARN"}


class TestDownload(TaskContract):
    task = "http.download"

    @pytest.fixture
    def fields(self, http_receiver: HttpReceiver) -> Mapping[str, Any]:
        http_receiver.answer(200, b"x" * 100_000, {"Content-Type": "text/plain"})
        return {"uri": f"{http_receiver.url}/a.txt"}

    @pytest.fixture
    def slow_fields(self, http_receiver: HttpReceiver) -> Mapping[str, Any]:
        http_receiver.answer(200, after=60)
        return {"uri": http_receiver.url}


class TestEmit(TaskContract):
    task = "event.emit"

    @pytest.fixture
    def fields(self) -> Mapping[str, Any]:
        return {"event": "shop.paid", "data": {"n": 1}}


class TestWriteFile(TaskContract):
    task = "file.write"

    @pytest.fixture
    def fields(self) -> Mapping[str, Any]:
        return {"path": "out.txt", "content": "text"}


class Inbox(Source):
    """Files that come as good programs bring one."""

    fields = {"path": "inbox", "settle": "50ms", "after": {"move": "done", "failed": "failed"}}

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "inbox").mkdir()

    async def happen(self, running: TriggerRun, number: int) -> None:
        part = self.folder / "part"
        part.write_text(f"content {number}")
        part.rename(self.folder / "inbox" / f"{number}.txt")


class TestFileArrival(TriggerContract):
    trigger_type = REGISTRY.triggers["file.arrival"]

    @pytest.fixture
    def source(self, tmp_path: Path) -> Source:
        return Inbox(tmp_path)


class Sender(Source):
    """A sender that gives every delivery its id."""

    fields = {"dedup": {"key": "{{ trigger.headers['x-id'] }}"}}

    def __init__(self) -> None:
        self.taken = 0

    async def happen(self, running: TriggerRun, number: int) -> None:
        reply = await running.send({"n": number}, headers={"X-Id": f"d{number}"})
        if reply.status != 202:
            raise ConnectionError(f"answered {reply.status}: {json.dumps(reply.json)}")
        self.taken += 1

    def acknowledged(self) -> int:
        return self.taken


class TestWebhook(TriggerContract):
    trigger_type = REGISTRY.triggers["webhook"]

    @pytest.fixture
    def source(self) -> Source:
        return Sender()
