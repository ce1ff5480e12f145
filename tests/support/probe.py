"""A notifier whose end is a list: what it was given, and what it is told to answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from pydantic import Field

from hub.plugin import Notification, Notifier, NotifierContext
from hub.registry import Registry, load_plugins


@dataclass
class Probed:
    """What a probe saw, and how it answers."""

    seen: list[Notification] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    progress: list[Any] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    answers: list[Exception | None] = field(default_factory=list)
    """What the next attempts end with, one after another; None and nothing left mean that it arrived."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    """Set with each attempt."""
    gate: asyncio.Event | None = None
    """What an attempt waits for before it answers."""
    side_by_side: int = 0
    most: int = 0


class Probe(Notifier):
    """Note what is sent."""

    type: ClassVar[str] = "probe"
    at_once: ClassVar[int] = 2
    probed: ClassVar[Probed]

    key: str = Field("none", description="Something to render.")

    async def send(self, notification: Notification, ctx: NotifierContext) -> None:
        probed = self.probed
        probed.seen.append(notification)
        probed.attempts.append(ctx.attempt)
        probed.progress.append(dict(ctx.progress))
        probed.keys.append(self.key)
        probed.side_by_side += 1
        probed.most = max(probed.most, probed.side_by_side)
        probed.arrived.set()
        try:
            if probed.gate is not None:
                await probed.gate.wait()
        finally:
            probed.side_by_side -= 1
        if probed.answers and (answer := probed.answers.pop(0)) is not None:
            raise answer


def probing() -> tuple[Registry, Probed]:
    """A registry with a probe, and what it sees."""
    probed = Probed()
    kind = type("Probe", (Probe,), {"probed": probed, "__doc__": Probe.__doc__})
    registry = load_plugins({})
    return replace(registry, notifiers={**registry.notifiers, "probe": kind}), probed
