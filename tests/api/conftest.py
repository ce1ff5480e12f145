"""An API over a node in this process, to be asked as it starts, serves and stops."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hub.api import open_api
from hub.app import Place, open_node
from hub.config.settings import load_settings
from hub.engine.node import Node
from hub.model import jsontext


@dataclass(frozen=True)
class Said:
    """What the API answered."""

    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def json(self) -> Any:
        return jsontext.loads(self.raw)


@dataclass(frozen=True)
class Asking:
    """A node with its API."""

    node: Node
    url: str
    session: aiohttp.ClientSession

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def __call__(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Said:
        data = body if isinstance(body, bytes) or body is None else jsontext.dump_bytes(body)
        async with self.session.request(
            method, self.url + path, data=data, headers=headers or {}, allow_redirects=False
        ) as answer:
            return Said(answer.status, {k.lower(): v for k, v in answer.headers.items()}, await answer.read())


Serve = Callable[..., AbstractAsyncContextManager[Asking]]


@pytest.fixture
def serving(tmp_path: Path) -> Serve:
    """Serve with these variables set; ``running=False`` leaves the node as it is before it is ready."""

    @asynccontextmanager
    async def serve(
        environ: Mapping[str, str] | None = None, *, running: bool = True, storage: str = "memory:"
    ) -> AsyncIterator[Asking]:
        given = {"HUB_STORAGE": storage, "HUB_PORT": "0", **(environ or {})}
        settings = load_settings(given, folder=tmp_path).settings
        place = Place(settings, tmp_path, tmp_path, given)
        async with open_node(place) as node, open_api(node, settings) as api:
            node.drain_grace = node.notices_grace = 0.0
            async with aiohttp.ClientSession(skip_auto_headers=["User-Agent"]) as session:
                asking = Asking(node, api.local_url, session)
                if not running:
                    yield asking
                    return
                async with node.running():
                    yield asking

    return serve
