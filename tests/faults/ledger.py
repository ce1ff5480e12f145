"""The ledger: what was sent, what was answered and what was done, kept outside the hub.

The flow's tasks call the ledger over HTTP; the driver sends the webhooks and writes down each answer. At the
end the hub's own account is held against it.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from aiohttp import web

_STEPS = ("first", "a", "b", "last")
_ONE_RENDERING = 0.15
"""Seconds within which all values of one loop are made, when they are made once."""


@dataclass(frozen=True)
class Call:
    """One task of the flow was at the ledger."""

    execution: str
    step: str
    index: int
    value: str
    at: float = field(default_factory=time.monotonic)


@dataclass
class Ledger:
    """What the world outside the hub knows."""

    acknowledged: dict[int, dict[str, Any]] = field(default_factory=dict)
    """By delivery number: the 202's body."""
    sent: int = 0
    calls: list[Call] = field(default_factory=list)
    scheduled: list[tuple[str, str]] = field(default_factory=list)
    """Execution and planned time of each call of the scheduled flow."""
    wrong: list[str] = field(default_factory=list)
    forgiven: list[tuple[float, float]] = field(default_factory=list)
    """When calls may have come from a hub that was frozen in the middle of one and let go again: what it was just
    doing happens, and is recorded no more."""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """Take the tasks' calls; gives the port."""

        async def called(request: web.Request) -> web.Response:
            query = request.query
            if query["step"] == "scheduled":
                self.scheduled.append((query["execution"], query["value"]))
            else:
                call = Call(query["execution"], query["step"], int(query["index"]), query.get("value", ""))
                self.calls.append(call)
            # long enough for a kill to fall into the middle of a task
            await asyncio.sleep(0.01)
            return web.json_response({"ok": True})

        application = web.Application()
        application.router.add_get("/call", called)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()

    def answered(self, number: int, body: dict[str, Any]) -> None:
        """A 202 came back."""
        known = self.acknowledged.setdefault(number, body)
        if known["executionIds"] != body["executionIds"]:
            self.wrong.append(f"delivery {number} was answered with two executions")

    # -- the account

    def check(self, executions: list[dict[str, Any]], events: list[dict[str, Any]]) -> list[str]:
        """Every promise that was broken."""
        by_id = {one["id"]: one for one in executions}
        wrong = list(self.wrong)
        wrong += self._lost(by_id)
        wrong += _twice(events, executions)
        wrong += [
            f"execution {one['id']} of {one['flow']} is {one['state']}: {one['error']}"
            for one in executions
            if one["state"] != "SUCCESS"
        ]
        wrong += self._repeated()
        wrong += self._changed_values()
        wrong += self._schedule(events)
        return wrong

    def _lost(self, by_id: dict[str, dict[str, Any]]) -> list[str]:
        done = {call.execution for call in self.calls if call.step == "last"}
        wrong = []
        for number, body in self.acknowledged.items():
            [execution] = body["executionIds"]
            if execution not in by_id:
                wrong.append(f"delivery {number} was acknowledged and is lost")
            elif execution not in done:
                wrong.append(f"delivery {number} was acknowledged and never done")
        return wrong

    def _repeated(self) -> list[str]:
        """A step that ran again after a later one had begun: it had been completed."""
        wrong = []
        lines: dict[tuple[str, int], list[str]] = defaultdict(list)
        for call in self.calls:
            if any(begin <= call.at <= end for begin, end in self.forgiven):
                continue
            if call.step in ("a", "b"):
                lines[call.execution, call.index].append(call.step)
            else:
                for index in range(3):
                    lines[call.execution, index].append(call.step)
        for (execution, index), steps in lines.items():
            places = [_STEPS.index(step) for step in steps]
            if places != sorted(places):
                wrong.append(f"execution {execution}, item {index}: completed steps ran again: {steps}")
        return wrong

    def _changed_values(self) -> list[str]:
        """A loop's values must all be of one rendering, whatever happened between."""
        moments: dict[str, list[float]] = defaultdict(list)
        for call in self.calls:
            if call.step in ("a", "b"):
                moments[call.execution].append(datetime.fromisoformat(call.value).timestamp())
        return [
            f"execution {execution}: its loop's values were rendered more than once, {max(found) - min(found):.3f} s apart"
            for execution, found in moments.items()
            if max(found) - min(found) > _ONE_RENDERING
        ]

    def _schedule(self, events: list[dict[str, Any]]) -> list[str]:
        """With ``missed: all`` every second from the first to the last is there once."""
        planned = sorted(event["data"]["date"] for event in events if event["source"].endswith("/tick"))
        wrong = []
        if len(planned) != len(set(planned)):
            wrong.append("a planned time gave two events")
        moments = [datetime.fromisoformat(one) for one in planned]
        gaps = [one for one, other in pairwise(moments) if (other - one).total_seconds() > 1]
        if gaps:
            wrong.append(f"planned times after {gaps} are missing")
        done = {value for _, value in self.scheduled}
        wrong += [f"the planned time {one} was never done" for one in planned if one not in done]
        return wrong


def _twice(events: list[dict[str, Any]], executions: list[dict[str, Any]]) -> list[str]:
    numbers: dict[int, int] = defaultdict(int)
    for event in events:
        if event["source"].endswith("/hook"):
            numbers[event["data"]["body"]["n"]] += 1
    wrong = [f"delivery {number} gave {count} events" for number, count in numbers.items() if count > 1]
    started: dict[str, int] = defaultdict(int)
    for execution in executions:
        started[execution["eventId"]] += 1
    wrong += [f"event {event} started {count} executions" for event, count in started.items() if count > 1]
    return wrong
