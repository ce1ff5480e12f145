"""/api/v1/reload: have a new process take over, and say how that went."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, Protocol

from aiohttp import web
from pydantic import Field

from hub import __version__
from hub.api.answers import masked_answer
from hub.api.routing import Call, Route
from hub.api.views.base import View
from hub.errors import Conflict

State = Literal["none", "preparing", "handing over", "done", "failed"]


@dataclass(frozen=True, slots=True)
class ReloadStatus:
    """How the last reload went, as far as this process knows."""

    state: State = "none"
    """``none`` where nobody asked for one yet, ``done`` in the process that took over."""
    number: int = 0
    """The how manyth it is; a restart begins anew."""
    pid: int = 0
    """The process that answers."""
    version: str = ""
    error: str | None = None
    seconds: float | None = None
    """How long requests had to wait for the new process."""


class Reloads(Protocol):
    """What the API asks to have the hub reloaded."""

    def status(self) -> ReloadStatus:
        """How the last one went, or goes."""

    async def begin(self) -> ReloadStatus:
        """Start a process that is to take over, and return once it is ready to.

        Raises ``Conflict`` saying why none takes over; then this one goes on.
        """


RELOADS = web.AppKey[Reloads | None]("reloads")


class ReloadView(View):
    """How the last reload went, or goes."""

    state: State = Field(
        description="`none` before the first, `done` in the process that took over, `failed` where the old one goes on."
    )
    number: int = Field(description="The how manyth since the hub was started.")
    pid: int = Field(description="The process that answers.")
    version: str = Field(description="Its version.")
    error: str | None = Field(description="Why the last one failed.")
    seconds: float | None = Field(description="How long requests had to wait for the new process.")


async def get_reload(call: Call) -> web.Response:
    reloads = call.request.app[RELOADS]
    status = ReloadStatus(pid=os.getpid(), version=__version__) if reloads is None else reloads.status()
    return await masked_answer(_view(status), call.node.services.vault)


async def begin_reload(call: Call) -> web.Response:
    reloads = call.request.app[RELOADS]
    if reloads is None:
        raise Conflict("this hub cannot be reloaded", hint="only one that `hub serve` started can")
    return await masked_answer(_view(await reloads.begin()), call.node.services.vault, status=202)


def _view(status: ReloadStatus) -> ReloadView:
    return ReloadView(
        state=status.state,
        number=status.number,
        pid=status.pid,
        version=status.version,
        error=status.error,
        seconds=status.seconds,
    )


ROUTES = (
    Route("GET", "/api/v1/reload", get_reload, "How the last reload went, or goes.", ReloadView),
    Route(
        "POST",
        "/api/v1/reload",
        begin_reload,
        "Have a new process take over: plugins, settings and the hub itself as they are installed now.",
        ReloadView,
        status=202,
    ),
)
