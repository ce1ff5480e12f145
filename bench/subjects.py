"""Start and stop what is measured: the hub of a checkout, and the bare programs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from bench.rows import median

ROOT = Path(__file__).parent.parent


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


ONE = """id: one
namespace: bench
triggers:
  - {id: hook, type: webhook, key: k}
tasks:
  - {id: answer, type: return, value: "{{ trigger.body.n }}"}
"""
"""The flow that most cases run."""


def write_flow(data: Path, source: str) -> None:
    """A flow's file in the flows folder below ``data``."""
    (data / "flows").mkdir(exist_ok=True)
    name = source.split("\n", 1)[0].removeprefix("id: ")
    (data / "flows" / f"{name}.hub.yaml").write_text(source)


@contextmanager
def folder() -> Iterator[Path]:
    """A folder on the disk that the results are about, not in memory."""
    base = ROOT / ".cache" / "bench"
    base.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(dir=base))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class Hub:
    """A running hub."""

    def __init__(self, process: subprocess.Popen[str], port: int, ready_seconds: float) -> None:
        self.process = process
        self.port = port
        self.ready_seconds = ready_seconds

    def call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"http://127.0.0.1:{self.port}{path}", data=data, method=method)
        with urlopen(request, timeout=600) as answer:
            return json.loads(answer.read() or b"null")

    def memory_mib(self, field: str = "VmRSS") -> float:
        """Of the hub with the processes that it has beside it."""
        pid = self.process.pid
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            beside = map(int, file.read().split())
            return sum(memory_mib(one, field) for one in (pid, *beside))

    def run_flow(self, flow: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Start a flow and wait for its end."""
        started = self.call("POST", f"/api/v1/flows/bench/{flow}/executions", {"inputs": inputs})
        request = Request(f"http://127.0.0.1:{self.port}/api/v1/executions/{started['id']}/logs?follow=true")
        with urlopen(request, timeout=3600) as answer:
            answer.read()
        ended: dict[str, Any] = self.call("GET", f"/api/v1/executions/{started['id']}")
        if ended["state"] != "SUCCESS":
            raise SystemExit(f"{flow} ended {ended['state']}: {ended['error']}")
        return ended


def memory_mib(pid: int, field: str = "VmRSS") -> float:
    with open(f"/proc/{pid}/status") as status:
        return int(next(line.split()[1] for line in status if line.startswith(field))) / 1024


@contextmanager
def hub(data: Path, flows: Path | None, command: str) -> Iterator[Hub]:
    """Serve a folder with the hub of ``command`` until the block ends."""
    port = free_port()
    arguments = [command, "serve", "--port", str(port), "--data", str(data), "--log-level", "error"]
    if flows is not None:
        arguments += ["--flows", str(flows)]
    began = time.perf_counter()
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=data)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if "ready" not in line:
            raise SystemExit(f"the hub did not start: {line}")
        yield Hub(process, port, time.perf_counter() - began)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def python(module: str, *arguments: str) -> str:
    """Run a module of ours in a fresh interpreter and answer what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout.strip()


@contextmanager
def server(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A bare server that says "ready"."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.wait()


def flush_ms() -> float:
    """What one small flush costs here."""
    with folder() as data:
        handle = os.open(data / "flush", os.O_WRONLY | os.O_CREAT)
        times = []
        for _ in range(200):
            os.write(handle, b"x" * 4096)
            began = time.perf_counter()
            os.fdatasync(handle)
            times.append(time.perf_counter() - began)
        os.close(handle)
    return median(times) * 1000
