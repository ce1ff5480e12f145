"""A real hub in a process of its own, as a user starts it."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

START = (sys.executable, "-m", "hub")


class Answer:
    """An HTTP answer."""

    def __init__(self, status: int, headers: Mapping[str, str], raw: bytes) -> None:
        self.status = status
        self.headers = headers
        self.raw = raw

    @property
    def json(self) -> Any:
        return json.loads(self.raw)


class HubProcess:
    """``hub serve`` over a data folder; the port is a free one and stays the same over restarts."""

    def __init__(
        self,
        data: Path,
        *,
        flows: Path | None = None,
        start: Sequence[str] = START,
        env: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        port: int = 0,
    ) -> None:
        self.data = data
        self._flows = flows
        self._start = start
        self.env = dict(env or {})
        self._arguments = list(arguments)
        self.port = port
        self.process: subprocess.Popen[str] | None = None
        self.lines: list[str] = []
        self.log = data / "hub.log"

    def __enter__(self) -> HubProcess:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        command = [*self._start, "serve", "--port", str(self.port), "--data", str(self.data)]
        if self._flows is not None:
            command += ["--flows", str(self._flows)]
        return command + self._arguments

    def start(self, *, timeout: float = 60) -> str:
        """Start it and wait for its ready line."""
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=self.data,
                env={**_clean_environment(), **self.env},
            )
        line = self._ready_line(timeout)
        if self.port == 0:
            self.port = int(line.split("http://127.0.0.1:")[1].split(" ")[0])
        return line

    def _ready_line(self, timeout: float) -> str:
        assert self.process is not None
        assert self.process.stdout is not None
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            readable, _, _ = select.select([self.process.stdout], [], [], 0.2)
            if readable:
                line = self.process.stdout.readline()
                self.lines.append(line)
                if " ready at " in line:
                    return line
                if not line:
                    break
        self.process.kill()
        raise AssertionError(f"the hub did not start:\n{''.join(self.lines)}\n{self.log.read_text()}")

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, *, timeout: float = 60) -> int:
        """SIGTERM, and the exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code

    def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One HTTP request; ``body`` is sent as JSON unless it is bytes."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        given = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            given.setdefault("Content-Type", "application/json")
        request = Request(self.url + path, data=data, method=method, headers=given)
        try:
            with urlopen(request, timeout=60) as answer:
                return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read())
        except HTTPError as error:
            return Answer(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())

    def send(self, raw: bytes, *, timeout: float = 30) -> Answer:
        """Send bytes as they are and read one answer; raises ``ConnectionError`` when there is none."""
        method = raw.split(b" ", 1)[0].decode("latin-1")
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
            connection.sendall(raw)
            answer = HTTPResponse(connection, method=method)
            answer.begin()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())

    def request(
        self, method: str, target: bytes, headers: Sequence[tuple[str, bytes]] = (), body: bytes = b""
    ) -> Answer:
        """One request in its own connection, with headers of any bytes; Host and length are added."""
        lines = [method.encode() + b" " + target + b" HTTP/1.1"]
        if not any(name.lower() == "host" for name, _ in headers):
            lines.append(b"Host: 127.0.0.1:%d" % self.port)
        lines += [name.encode() + b": " + value for name, value in headers]
        lines += [b"Content-Length: %d" % len(body), b"Connection: close", b"", b""]
        return self.send(b"\r\n".join(lines) + body)

    def ended(self, execution_id: str, *, timeout: float = 60) -> dict[str, Any]:
        """Wait for an execution's end (the hub tells when) and answer it."""
        request = Request(f"{self.url}/api/v1/executions/{execution_id}/logs?follow=true")
        with urlopen(request, timeout=timeout) as answer:
            answer.read()
        found: dict[str, Any] = self.call("GET", f"/api/v1/executions/{execution_id}").json
        return found

    def all_of(self, path: str) -> list[dict[str, Any]]:
        """Every item of a list, page by page."""
        items: list[dict[str, Any]] = []
        cursor = ""
        while True:
            joint = "&" if "?" in path else "?"
            page = self.call("GET", f"{path}{joint}limit=1000{cursor}").json
            items += page["items"]
            if not page.get("nextCursor"):
                return items
            cursor = f"&cursor={page['nextCursor']}"


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}


def hub_command(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 120
) -> Any:
    """Run ``hub …`` and answer the finished process with its texts."""
    return subprocess.run(
        [*START, *arguments],
        cwd=cwd,
        env={**_clean_environment(), **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
