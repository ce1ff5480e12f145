"""Downloads against a real server on this machine."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hub.errors import InvalidFlow
from hub.model.execution import Execution
from hub.testing import Harness, harness

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
BIG = bytes(range(256)) * 4096 * 5


@dataclass
class Server:
    """A server whose one page is the test's."""

    url: str = ""
    handler: Handler | None = None

    async def answer(self, request: web.Request) -> web.StreamResponse:
        assert self.handler is not None
        return await self.handler(request)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Harness]:
    async with harness(tmp_path) as hub:
        yield hub


async def download(hub: Harness, url: str, more: str = "") -> tuple[Execution, dict[str, Any]]:
    await hub.put(
        f"id: f\nnamespace: t\ntasks:\n  - id: get\n    type: http.download\n    uri: '{url}'\n{more}"
    )
    ended = await hub.run("t/f")
    return ended, dict((await hub.task_runs(ended.id))["get"].outputs or {})


def answering(body: bytes, status: int = 200, **headers: str) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(
            body=body, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )

    return handler


def stored_files(folder: Path) -> list[Path]:
    return [path for path in (folder / "files").rglob("*") if path.is_file()]


async def test_a_file_is_stored_and_described(hub: Harness, server: Server) -> None:
    server.handler = answering(BIG, Content_Type="application/zip", X_Two="a")
    ended, outputs = await download(hub, f"{server.url}/files/my%20orders.zip?token=1")
    assert ended.state.value == "SUCCESS"
    headers = outputs.pop("headers")
    uri = outputs.pop("uri")
    assert outputs == {
        "name": "my orders.zip",
        "size": len(BIG),
        "sha256": hashlib.sha256(BIG).hexdigest(),
        "contentType": "application/zip",
        "status": 200,
    }
    assert headers["x-two"] == "a"
    assert await hub.node.services.payloads.store.get(uri) == BIG


@pytest.mark.parametrize(
    ("path", "disposition", "name"),
    [
        ("/a.csv", 'attachment; filename="b.csv"', "b.csv"),
        ("/a.csv", "attachment; filename*=UTF-8''%C3%A9.csv", "é.csv"),
        ("/a.csv", 'attachment; filename="../../../etc/passwd"', "passwd"),
        ("/a.csv", 'attachment; filename=".."', "a.csv"),
        ("/", "", "download"),
        ("/..%2f..%2fetc%2fpasswd", "", "passwd"),
        ("/a%09b", "", "ab"),
    ],
)
async def test_a_name_is_one_plain_part(
    hub: Harness, server: Server, path: str, disposition: str, name: str
) -> None:
    server.handler = answering(b"x", **({"Content_Disposition": disposition} if disposition else {}))  # type: ignore[arg-type]
    _, outputs = await download(hub, server.url + path)
    assert outputs["name"] == name


async def test_the_flow_may_name_the_file_and_what_it_must_be(hub: Harness, server: Server) -> None:
    server.handler = answering(b"x")
    digest = hashlib.sha256(b"x").hexdigest()
    ended, outputs = await download(hub, server.url, f"    name: orders.csv\n    sha256: {digest.upper()}\n")
    assert (ended.state.value, outputs["name"]) == ("SUCCESS", "orders.csv")


async def test_another_content_than_expected_is_not_stored(
    hub: Harness, server: Server, tmp_path: Path
) -> None:
    server.handler = answering(b"changed")
    ended, outputs = await download(hub, server.url, f"    sha256: {'f' * 64}\n")
    assert ended.error is not None
    assert f"expected {'f' * 64}" in ended.error
    assert "uri" not in outputs
    assert stored_files(tmp_path) == []


async def test_a_digest_that_is_none_is_refused_when_the_flow_is_saved(hub: Harness) -> None:
    with pytest.raises(InvalidFlow, match="64 hexadecimal digits"):
        await download(hub, "http://127.0.0.1:1", "    sha256: abc\n")


async def _endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"x" * 65536)


async def _bomb(request: web.Request) -> web.Response:
    return web.Response(
        body=gzip.compress(bytes(50_000_000)),
        headers={"Content-Encoding": "gzip", "Content-Type": "application/octet-stream"},
    )


@pytest.mark.parametrize("handler", [_endless, _bomb, answering(b"x" * 3_000_000)])
async def test_more_than_the_limit_is_refused_and_not_stored(
    hub: Harness, server: Server, tmp_path: Path, handler: Handler
) -> None:
    server.handler = handler
    ended, _ = await download(hub, server.url, "    maxBodyBytes: 2000000\n")
    assert ended.error is not None
    assert "larger than 2000000 bytes (maxBodyBytes)" in ended.error
    assert stored_files(tmp_path) == []


async def test_a_compressed_answer_is_stored_as_what_it_is(hub: Harness, server: Server) -> None:
    server.handler = answering(gzip.compress(b"a,b\n" * 1000), Content_Encoding="gzip")
    _, outputs = await download(hub, server.url)
    assert outputs["size"] == 4000


async def _breaks_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"x" * 500)
    assert request.transport is not None
    request.transport.close()
    return response


async def test_half_a_file_is_a_failure_and_is_tried_again(
    hub: Harness, server: Server, tmp_path: Path
) -> None:
    answers = iter([_breaks_off, answering(b"y" * 1000)])

    async def handler(request: web.Request) -> web.StreamResponse:
        return await next(answers)(request)

    server.handler = handler
    ended, outputs = await download(
        hub, server.url, "    retry: {type: constant, interval: PT0.01S, maxAttempts: 2}\n"
    )
    assert (ended.state.value, outputs["size"]) == ("SUCCESS", 1000)
    assert len(stored_files(tmp_path)) == 1


async def test_a_bad_status_fails_with_what_the_server_says(
    hub: Harness, server: Server, tmp_path: Path
) -> None:
    server.handler = answering(b"no such\nfile", 404)
    ended, outputs = await download(hub, f"{server.url}/x?secret=1")
    assert f"GET {server.url}/x answered 404 Not Found: no such file" in str(ended.error)
    assert outputs["status"] == 404
    assert stored_files(tmp_path) == []


async def test_what_was_downloaded_goes_into_a_script(hub: Harness, server: Server) -> None:
    server.handler = answering(b"a\nb\n")
    await hub.put(
        f"id: f\nnamespace: t\ntasks:\n  - {{id: get, type: http.download, uri: '{server.url}/x.csv'}}\n"
        "  - id: use\n    type: script.shell\n    inputFiles: {x.csv: '{{ outputs.get.uri }}'}\n"
        "    script: echo n=$(wc -l < x.csv) > $HUB_OUTPUT\n"
    )
    ended = await hub.run("t/f")
    assert ((await hub.task_runs(ended.id))["use"].outputs or {})["vars"] == {"n": "2"}


async def test_nothing_is_left_in_the_working_folder(hub: Harness, server: Server, tmp_path: Path) -> None:
    server.handler = answering(b"x")
    await download(hub, server.url)
    assert list((tmp_path / "work").iterdir()) == []
