"""The proxies of the how-to, as their real programs read the files, in front of a real hub.

No package brings these programs: each test runs where its program is on the path.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub_process import HubProcess, hub_command
from tests.support.ports import free_port

EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "proxy"
TOKEN = "let-me-in"
_WAITING = """id: waits
namespace: proxy
triggers: [{id: h, type: webhook, key: k}]
tasks:
  - id: t
    type: script.shell
    env: {GATE: "{{ inputs.gate ?? '' }}"}
    script: |
      echo begun
      test -z "$GATE" || cat "$GATE"
inputs: [{id: gate, type: STRING, required: false}]
"""


@dataclass(frozen=True)
class Proxy:
    """A proxy at ``https://localhost:PORT`` and the hub behind it."""

    port: int
    hub: HubProcess
    data: Path

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @contextmanager
    def asked(
        self, method: str, path: str, body: Any = None, *, token: str | None = TOKEN
    ) -> Iterator[tuple[int, Any]]:
        """One request through the proxy: the status, and the answer to be read."""
        # the certificate is one that the test made a moment ago
        context = ssl._create_unverified_context()
        connection = HTTPSConnection("localhost", self.port, timeout=60, context=context)
        headers = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {token}"} if token else {}
        )
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            yield answer.status, answer
        finally:
            connection.close()

    def call(self, method: str, path: str, body: Any = None, *, token: str | None = TOKEN) -> tuple[int, Any]:
        with self.asked(method, path, body, token=token) as (status, answer):
            return status, json.loads(answer.read())


def _replaced(text: str, replacements: Mapping[str, str]) -> str:
    for old, new in replacements.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


@contextmanager
def _started(command: list[str], pid_file: Path, env: Mapping[str, str]) -> Iterator[None]:
    """A program that goes to the background once it listens, and is ended by the pid it wrote."""
    # files: a pipe would stay open for as long as the program in the background
    with (pid_file.parent / "proxy.log").open("w") as log:
        code = subprocess.run(
            command, stdout=log, stderr=log, env={**os.environ, **env}, check=False
        ).returncode
    assert code == 0, (pid_file.parent / "proxy.log").read_text()
    try:
        yield
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGTERM)


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost, and its key."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


@contextmanager
def _nginx(folder: Path, port: int, hub_port: int) -> Iterator[None]:
    certificate, key = _certificate(folder)
    site = _replaced(
        (EXAMPLES / "nginx.conf").read_text(),
        {
            "    listen [::]:443 ssl;\n": "",
            "    listen [::]:80;\n": "",
            "/etc/letsencrypt/live/hub.example.org/fullchain.pem": str(certificate),
            "/etc/letsencrypt/live/hub.example.org/privkey.pem": str(key),
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "listen 80": f"listen 127.0.0.1:{free_port()}",
            "127.0.0.1:8484": f"127.0.0.1:{hub_port}",
            "hub.example.org": "localhost",
        },
    )
    (folder / "hub.conf").write_text(site)
    temporary = "".join(
        f"  {name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        ("user root;\n" if os.getuid() == 0 else "")
        + f"pid {folder}/nginx.pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
        + f"http {{\n  access_log off;\n{temporary}  include {folder}/hub.conf;\n}}\n"
    )
    command = ["nginx", "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
    with _started(command, folder / "nginx.pid", {}):
        yield


@contextmanager
def _caddy(folder: Path, port: int, hub_port: int) -> Iterator[None]:
    certificate, key = _certificate(folder)
    site = _replaced(
        (EXAMPLES / "Caddyfile").read_text(),
        {
            "hub.example.org {\n": f"https://localhost:{port} {{\n\ttls {certificate} {key}\n\tbind 127.0.0.1\n",
            "127.0.0.1:8484": f"127.0.0.1:{hub_port}",
        },
    )
    options = "{\n\tadmin off\n\tauto_https disable_redirects\n}\n"
    (folder / "Caddyfile").write_text(options + site)
    command = [
        "caddy",
        "start",
        "--config",
        str(folder / "Caddyfile"),
        "--pidfile",
        str(folder / "caddy.pid"),
    ]
    home = {
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder / "data"),
        "XDG_CONFIG_HOME": str(folder / "config"),
    }
    with _started([*command, "--adapter", "caddyfile"], folder / "caddy.pid", home):
        yield


PROXIES: Mapping[str, Callable[[Path, int, int], Any]] = {"nginx": _nginx, "caddy": _caddy}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                not (shutil.which(name) and shutil.which("openssl")),
                reason=f"{name} or openssl is not on the path",
            ),
        )
        for name in PROXIES
    ],
)
def proxy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    data = tmp_path_factory.mktemp("hub")
    (data / "flows").mkdir()
    (data / "flows" / "waits.hub.yaml").write_text(_WAITING)
    port = free_port()
    public = ["--public-url", f"https://localhost:{port}"]
    with (
        HubProcess(data, env={"HUB_TOKEN": TOKEN}, arguments=public, port=free_port()) as hub,
        PROXIES[request.param](tmp_path_factory.mktemp(request.param), port, hub.port),
    ):
        yield Proxy(port, hub, data)


def test_a_webhook_is_delivered_at_the_url_that_the_hub_prints(proxy: Proxy) -> None:
    listed = hub_command(
        "triggers",
        "list",
        "-o",
        "json",
        cwd=proxy.data,
        env={"HUB_TOKEN": TOKEN, "HUB_SERVER": proxy.hub.url},
    )
    url = json.loads(listed.stdout)[0]["url"]
    assert url == f"{proxy.url}/api/v1/webhooks/proxy/waits/k"
    status, answer = proxy.call("POST", url.removeprefix(proxy.url), {}, token=None)
    assert status == 202
    assert answer["executionIds"]


def test_everything_else_needs_the_token(proxy: Proxy) -> None:
    assert proxy.call("GET", "/api/v1/flows", token=None)[0] == 401
    assert proxy.call("GET", "/api/v1/flows")[0] == 200
    assert proxy.call("GET", "/health/ready", token=None)[0] == 200


def test_a_stream_comes_line_by_line(proxy: Proxy, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    _, started = proxy.call("POST", "/api/v1/flows/proxy/waits/executions", {"inputs": {"gate": str(gate)}})
    with proxy.asked("GET", f"/api/v1/executions/{started['id']}/stream") as (status, answer):
        assert status == 200
        # the script waits at the gate: a proxy that holds lines back would hold this one for ever
        while b"begun" not in (line := answer.readline()):
            assert line
        gate.write_text("")
        assert b"SUCCESS" in answer.read()


def test_the_hub_itself_says_what_is_too_large(proxy: Proxy) -> None:
    path = "/api/v1/webhooks/proxy/waits/k"
    assert proxy.call("POST", path, "x" * 900_000, token=None)[0] == 202
    status, answer = proxy.call("POST", path, "x" * 1_200_000, token=None)
    assert (status, answer["code"]) == (413, "too_large")
