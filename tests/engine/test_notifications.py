"""Owed notices are sent, tried again, put together and given up; no execution fails for any of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
import structlog
from pydantic import Field

from hub.errors import Conflict
from hub.model.execution import ExecutionState
from hub.plugin import (
    Arrival,
    Duration,
    Fail,
    Failed,
    Gone,
    NewNotice,
    NoticeState,
    Notifier,
    Retry,
    Static,
    StorageSettings,
    Task,
    TaskContext,
)
from hub.testing import Harness, VirtualClock, harness
from plugins_core.sqlite.storage import SqliteStorage
from tests.support.probe import Probed, probing

_N = NoticeState
_HOUR = timedelta(hours=1)
NOTIFIERS = {"oncall": {"type": "probe"}, "sales": {"type": "probe"}}


@asynccontextmanager
async def hub_with_probe(
    folder: Path, *, settings: Mapping[str, Any] | None = None, storage: str = "memory:", **more: Any
) -> AsyncIterator[tuple[Harness, Probed, VirtualClock]]:
    registry, probed = probing()
    clock = VirtualClock()
    given = {"notifiers": NOTIFIERS, **(settings or {})}
    async with harness(
        folder, registry=registry, clock=clock, settings=given, storage=storage, **more
    ) as hub:
        yield hub, probed, clock


def failing(notify: str, id: str = "f", namespace: str = "t") -> str:
    return (
        f"id: {id}\nnamespace: {namespace}\nlabels: {{team: a}}\n{notify}\n"
        "inputs: [{id: n, type: INT, defaults: 1}]\n"
        "tasks: [{id: a, type: execution.fail, message: 'no stock left'}]\n"
    )


TELL = "id: f\nnamespace: t\ntasks: [{id: a, type: notify, to: oncall, subject: hi, message: hello}]\n"


# -- who is told of what


async def test_a_failed_flow_tells_who_it_names(tmp_path: Path) -> None:
    async with hub_with_probe(tmp_path) as (hub, probed, _):
        await hub.put(failing("notify: {to: oncall}"))
        execution = await hub.run("t/f")
        assert execution.state is ExecutionState.FAILED
        [notice] = await hub.notices()
        [seen] = probed.seen
        assert (notice.state, notice.execution_id, str(notice.flow)) == (_N.DELIVERED, execution.id, "t/f")
        assert (seen.id, seen.subject, seen.state, seen.level) == (
            notice.id,
            "[FAILED] t/f",
            "FAILED",
            "ERROR",
        )
        assert "no stock left" in seen.message
        assert execution.id in seen.message


async def test_only_the_states_that_are_named_are_told_of(tmp_path: Path) -> None:
    async with hub_with_probe(tmp_path) as (hub, probed, _):
        await hub.put(failing("notify: {on: [WARNING, success], to: oncall}"))
        await hub.put(
            "id: g\nnamespace: t\nnotify: {on: SUCCESS, to: oncall}\ntasks: [{id: a, type: log, message: x}]\n"
        )
        await hub.run("t/f")
        await hub.run("t/g")
        await hub.notices()
        assert [one.subject for one in probed.seen] == ["[SUCCESS] t/g"]


async def test_the_closest_rule_speaks_to_each_once(tmp_path: Path) -> None:
    rules = [
        {"to": ["oncall", "sales"], "template": "hub"},
        {"to": "sales", "namespace": "t", "template": "namespace"},
        {"to": "sales", "namespace": "t", "flow": "other", "template": "other flow"},
        {"to": "sales", "namespace": "t.below", "template": "below"},
    ]
    async with hub_with_probe(tmp_path, settings={"notify": rules}) as (hub, probed, _):
        await hub.put(failing("notify: {to: oncall, template: flow}"))
        await hub.put(failing("", namespace="t.other"))
        await hub.put(failing("", namespace="tt"))
        await hub.run("t/f")
        await hub.notices()
        assert sorted(one.message for one in probed.seen) == ["flow", "namespace"]
        probed.seen.clear()
        await hub.run("t.other/f")
        await hub.notices()
        assert sorted(one.message for one in probed.seen) == ["hub", "namespace"]
        probed.seen.clear()
        await hub.run("tt/f")
        await hub.notices()
        assert [one.message for one in probed.seen] == ["hub", "hub"]


async def test_a_template_sees_the_end(tmp_path: Path) -> None:
    template = (
        "{subject: '{{ state }} of {{ flow.id }} {{ labels.team }} {{ inputs.n }}',"
        " message: '{{ error.message }} in {{ execution.id }}', html: '<b>{{ execution.duration }}</b>'}"
    )
    async with hub_with_probe(tmp_path) as (hub, probed, _):
        await hub.put(failing(f"notify:\n  to: oncall\n  template: {template}"))
        execution = await hub.run("t/f", {"n": 7})
        await hub.notices()
        [seen] = probed.seen
        assert seen.subject == "FAILED of f a 7"
        assert seen.message.endswith(f"no stock left in {execution.id}")
        assert seen.html == "<b>PT0S</b>"


async def test_a_template_that_fails_is_no_reason_to_be_silent(tmp_path: Path) -> None:
    async with hub_with_probe(tmp_path) as (hub, probed, _):
        await hub.put(failing("notify: {to: oncall, template: '{{ outputs.missing.x }}'}"))
        assert (await hub.run("t/f")).state is ExecutionState.FAILED
        await hub.notices()
        [seen] = probed.seen
        assert "no stock left" in seen.message
        assert "the template of this notice fails" in seen.message


async def test_a_kill_is_told_of_wherever_it_finds_the_execution(tmp_path: Path) -> None:
    sleeping = (
        "id: {id}\nnamespace: t\nnotify: {{on: [KILLED, CANCELLED], to: oncall}}\nconcurrency: {{limit: 1}}\n"
        "tasks: [{{id: a, type: flow.sleep, duration: PT1H}}]\n"
    )
    async with hub_with_probe(tmp_path) as (hub, probed, _):
        await hub.put(sleeping.format(id="f"))
        paused = await hub.start("t/f")
        queued = await hub.start("t/f")
        await hub.node.kill(queued.id, "not needed")
        await hub.node.kill(paused.id, "enough")
        await hub.notices()
        assert sorted(one.subject for one in probed.seen) == ["[CANCELLED] t/f", "[KILLED] t/f"]
        assert any("not needed" in one.message for one in probed.seen)


async def test_one_that_is_over_its_limit_is_told_of(tmp_path: Path) -> None:
    source = (
        "id: f\nnamespace: t\nnotify: {on: [CANCELLED], to: oncall, template: 'no room for {{ inputs.n }}'}\n"
        "inputs: [{id: n, type: INT}]\nconcurrency: {limit: 1, behavior: CANCEL}\ntasks: [{id: a, type: flow.sleep, duration: PT1H}]\n"
    )
    async with hub_with_probe(tmp_path) as (hub, probed, _):
        await hub.put(source)
        await hub.start("t/f", {"n": 1})
        late = await hub.start("t/f", {"n": 2})
        await hub.notices()
        assert [(one.execution_id, one.message) for one in probed.seen] == [(late.id, "no room for 2")]


# -- the task


async def test_a_task_tells_everybody_it_names(tmp_path: Path) -> None:
    source = (
        "id: f\nnamespace: t\ntasks:\n"
        '  - {id: a, type: notify, to: [oncall, sales], subject: "stock\\nlow", message: {n: 2}, level: warn,'
        " html: <b>2</b>, attachments: ['hub:///ab/x/01900000-0000-7000-8000-000000000000-a.csv']}\n"
        "  - {id: b, type: log, message: x}\n"
    )
    async with hub_with_probe(tmp_path) as (hub, probed, _):
        await hub.put(source)
        execution = await hub.run("t/f")
        notices = await hub.notices(execution_id=execution.id)
        assert sorted(one.notifier for one in notices) == ["oncall", "sales"]
        seen = probed.seen[0]
        assert (seen.subject, seen.message, seen.level, seen.html) == (
            "stock low",
            '{"n":2}',
            "WARN",
            "<b>2</b>",
        )
        assert [one.name for one in seen.attachments] == ["a.csv"]


async def test_a_task_that_ended_well_tells_nothing_again_after_a_restart(tmp_path: Path) -> None:
    source = TELL.rstrip("\n").removesuffix("]") + ", {id: b, type: execution.fail}]\n"
    async with hub_with_probe(tmp_path) as (hub, probed, _):
        await hub.put(source)
        execution = await hub.run("t/f")
        await hub.notices()
        await hub.node.restart(execution.id)
        assert (await hub.ended(execution.id)).state is ExecutionState.FAILED
        await hub.notices()
        assert len(probed.seen) == 1


async def test_the_same_end_after_a_restart_is_told_again(tmp_path: Path) -> None:
    async with hub_with_probe(tmp_path) as (hub, probed, _):
        await hub.put(failing("notify: {to: oncall}"))
        execution = await hub.run("t/f")
        await hub.notices()
        await hub.node.restart(execution.id)
        await hub.ended(execution.id)
        await hub.notices()
        assert len({one.id for one in probed.seen}) == len(probed.seen) == 2


async def test_each_iteration_of_a_loop_tells_for_itself(tmp_path: Path) -> None:
    source = (
        "id: f\nnamespace: t\ntasks:\n  - id: a\n    type: flow.loop\n    values: [1, 2, 3]\n    concurrencyLimit: 3\n"
        "    tasks: [{id: b, type: notify, to: oncall, message: '{{ item.value }}'}]\n"
    )
    async with hub_with_probe(tmp_path) as (hub, probed, _):
        await hub.put(source)
        await hub.run("t/f")
        await hub.notices()
        assert sorted(one.message for one in probed.seen) == ["1", "2", "3"]


class TellAndFail(Task):
    """Tell somebody, and fail at the first attempt."""

    type: ClassVar[str] = "probe.tell"

    async def run(self, ctx: TaskContext) -> None:
        ctx.notify("oncall", f"attempt {ctx.attempt}")
        if ctx.attempt == 1:
            raise Failed("not yet")


async def test_an_attempt_that_fails_owes_nothing(tmp_path: Path) -> None:
    registry, probed = probing()
    registry = replace(registry, tasks={**registry.tasks, TellAndFail.type: TellAndFail})
    source = (
        "id: f\nnamespace: t\ntasks:\n"
        "  - {id: a, type: probe.tell, retry: {interval: PT0.01S, maxAttempts: 2}}\n"
    )
    async with harness(tmp_path, registry=registry, settings={"notifiers": NOTIFIERS}) as hub:
        await hub.put(source)
        assert (await hub.run("t/f")).state is ExecutionState.SUCCESS
        await hub.notices()
        assert [one.message for one in probed.seen] == ["attempt 2"]


async def test_a_secret_is_not_in_what_is_stored(tmp_path: Path) -> None:
    source = TELL.replace("message: hello", "message: \"{{ secret('TOKEN') }} is the token\"")
    environ = {"HUB_SECRET_TOKEN": "abc-def-ghi"}
    async with hub_with_probe(tmp_path, environ=environ) as (hub, probed, _):
        await hub.put(source)
        await hub.run("t/f")
        [notice] = await hub.notices()
        assert notice.content["message"] == probed.seen[0].message == "****** is the token"


# -- sending


async def test_a_failed_attempt_is_tried_again_by_the_schedule_and_given_up(tmp_path: Path) -> None:
    settings = {"notifiers": {"oncall": {"type": "probe", "schedule": ["1m", "1h"]}}}
    async with hub_with_probe(tmp_path, settings=settings) as (hub, probed, clock):
        probed.answers = [ConnectionError("away"), Failed("busy", outputs={"done": 1}), Failed("no")]
        await hub.put(TELL)
        assert (await hub.run("t/f")).state is ExecutionState.SUCCESS
        [notice] = await hub.notices()
        assert (notice.state, notice.attempts, notice.error) == (_N.OWED, 1, "ConnectionError: away")
        assert notice.due_at is not None
        assert timedelta(minutes=1) <= notice.due_at - clock.now() <= timedelta(minutes=1.1)
        clock.advance(timedelta(minutes=1.1))
        [notice] = await hub.notices()
        assert (notice.state, notice.attempts, notice.error) == (_N.OWED, 2, "busy")
        clock.advance(1.1 * _HOUR)
        [notice] = await hub.notices()
        assert (notice.state, notice.error) == (_N.DEAD, "given up after 3 attempts: no")
        assert probed.attempts == [1, 2, 3]
        assert probed.progress == [{}, {}, {"done": 1}]
        assert len({one.id for one in probed.seen}) == 1
        await hub.node.notifications.retry(notice.id)
        [notice] = await hub.notices()
        assert notice.state is _N.DELIVERED
        assert probed.seen[-1].id == notice.id
        with pytest.raises(Conflict):
            await hub.node.notifications.retry(notice.id)


async def test_a_receiver_says_itself_when_it_wants_to_be_asked_again(tmp_path: Path) -> None:
    async with hub_with_probe(tmp_path) as (hub, probed, clock):
        probed.answers = [Retry("later", after=2 * _HOUR)]
        await hub.put(TELL)
        await hub.run("t/f")
        [notice] = await hub.notices()
        assert notice.due_at == clock.now() + 2 * _HOUR


async def test_what_would_fail_again_is_given_up_at_once(tmp_path: Path) -> None:
    async with hub_with_probe(tmp_path) as (hub, probed, _):
        probed.answers = [Fail("no such person")]
        await hub.put(TELL)
        await hub.run("t/f")
        [notice] = await hub.notices()
        assert (notice.state, notice.error, notice.attempts) == (_N.DEAD, "no such person", 1)


async def test_a_receiver_that_is_gone_is_left_alone_until_somebody_retries(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'hub.db'}"
    async with hub_with_probe(tmp_path, storage=storage) as (hub, probed, _):
        probed.answers = [Gone("410 Gone")]
        await hub.put(TELL)
        await hub.run("t/f")
        await hub.run("t/f")
        second, first = await hub.notices()
        assert (first.state, first.error) == (_N.DEAD, "410 Gone")
        assert second.state is _N.DEAD
        assert "disabled: 410 Gone" in (second.error or "")
        assert len(probed.seen) == 1
    async with hub_with_probe(tmp_path, storage=storage) as (hub, probed, _):
        await hub.run("t/f")
        third, *_ = await hub.notices()
        assert (third.state, probed.seen) == (_N.DEAD, [])
        await hub.node.notifications.retry(second.id)
        await hub.run("t/f")
        assert {one.state for one in await hub.notices()} == {_N.DEAD, _N.DELIVERED}
        assert len(probed.seen) == 2
    changed = {"notifiers": {"oncall": {"type": "probe", "key": "new"}}}
    async with hub_with_probe(tmp_path, storage=storage, settings=changed) as (hub, probed, _):
        await hub.run("t/f")
        await hub.notices()
        assert len(probed.seen) == 1


async def test_a_name_that_nobody_has_is_given_up_and_says_what_to_do(tmp_path: Path) -> None:
    async with hub_with_probe(tmp_path) as (hub, _, _):
        await hub.put(TELL.replace("oncall", "nobody"))
        assert (await hub.run("t/f")).state is ExecutionState.SUCCESS
        [notice] = await hub.notices()
        assert notice.state is _N.DEAD
        assert 'no notifier is called "nobody"' in (notice.error or "")


async def test_a_notifier_that_takes_too_long_is_broken_off(tmp_path: Path) -> None:
    settings = {"notifiers": {"oncall": {"type": "probe", "timeout": "1s"}}}
    async with hub_with_probe(tmp_path, settings=settings) as (hub, probed, _):
        probed.gate = asyncio.Event()
        await hub.put(TELL)
        await hub.run("t/f")
        [notice] = await hub.notices()
        assert (notice.state, notice.error) == (_N.OWED, "it took longer than 1 s; see timeout")


async def test_a_type_may_have_a_time_and_a_schedule_of_its_own(tmp_path: Path) -> None:
    registry, probed = probing()
    kind: type[Notifier] = registry.notifiers["probe"]

    class Hasty(kind):  # type: ignore[valid-type, misc]
        """Note what is sent, and be quick about it."""

        timeout: Static[Duration] = Field(timedelta(milliseconds=20), description="How long.")
        schedule: Static[list[Duration]] = Field([], description="When.")

    registry = replace(registry, notifiers={"probe": Hasty})
    probed.gate = asyncio.Event()
    async with harness(tmp_path, registry=registry, settings={"notifiers": NOTIFIERS}) as hub:
        await hub.put(TELL)
        await hub.run("t/f")
        [notice] = await hub.notices()
        assert notice.state is _N.DEAD
        assert notice.error == "given up after 1 attempts: it took longer than 0.02 s; see timeout"


async def test_a_slow_notifier_holds_up_nobody_else_and_has_its_bound(tmp_path: Path) -> None:
    registry, slow = probing()
    other, quick = probing()
    kinds = {"slow": registry.notifiers["probe"], "quick": other.notifiers["probe"]}
    registry = replace(registry, notifiers=kinds)
    slow.gate = asyncio.Event()
    settings = {"notifiers": {"oncall": {"type": "slow"}, "sales": {"type": "quick"}}}
    async with harness(tmp_path, registry=registry, settings=settings) as hub:
        await hub.put(TELL)
        await hub.put(TELL.replace("id: f", "id: g", 1).replace("oncall", "sales"))
        for _ in range(5):
            await hub.run("t/f")
        await hub.run("t/g")
        await quick.arrived.wait()
        assert (slow.side_by_side, len(slow.seen)) == (2, 2)
        slow.gate.set()
        assert {one.state for one in await hub.notices()} == {_N.DELIVERED}
        assert (slow.most, len(slow.seen), len(quick.seen)) == (2, 5, 1)


async def test_a_field_is_rendered_each_time_and_its_secret_is_never_logged(tmp_path: Path) -> None:
    settings = {"notifiers": {"oncall": {"type": "probe", "key": "{{ secret('KEY') }}", "schedule": ["1m"]}}}
    environ = {"HUB_SECRET_KEY": "abc-def-ghi"}
    async with hub_with_probe(tmp_path, settings=settings, environ=environ) as (hub, probed, clock):
        probed.answers = [ConnectionError("refused by abc-def-ghi"), ConnectionError("again abc-def-ghi")]
        await hub.put(TELL)
        with structlog.testing.capture_logs() as logs:
            await hub.run("t/f")
            [notice] = await hub.notices()
            assert notice.error == "ConnectionError: refused by ******"
            clock.advance(_HOUR)
            await hub.notices()
        assert probed.keys == ["abc-def-ghi"] * 2
        assert "abc-def-ghi" not in str(logs)
        assert [one["event"] for one in logs if one["log_level"] in ("warning", "error")] == [
            "notice could not be sent; it is tried again",
            "notice is given up",
        ]


# -- together


async def test_a_digest_gathers_what_happens_in_its_time(tmp_path: Path) -> None:
    async with hub_with_probe(tmp_path) as (hub, probed, clock):
        await hub.put(failing("notify: {to: oncall, digest: PT1H}"))
        for _ in range(3):
            await hub.run("t/f")
        assert {one.state for one in await hub.notices()} == {_N.OWED}
        clock.advance(_HOUR)
        notices = await hub.notices()
        assert {one.state for one in notices} == {_N.DELIVERED}
        [seen] = probed.seen
        assert seen.subject == "3 notices: [FAILED] t/f"
        assert len(seen.parts) == 3
        assert seen.id == notices[-1].id
        assert all(part.execution_id in seen.message for part in seen.parts if part.execution_id)


async def test_a_throttle_lets_the_first_through_and_gathers_the_rest(tmp_path: Path) -> None:
    async with hub_with_probe(tmp_path) as (hub, probed, clock):
        await hub.put(failing("notify: {to: oncall, throttle: PT10M}"))
        await hub.run("t/f")
        await hub.notices()
        assert len(probed.seen) == 1
        for _ in range(3):
            await hub.run("t/f")
        await hub.notices()
        assert len(probed.seen) == 1
        clock.advance(timedelta(minutes=10))
        assert {one.state for one in await hub.notices()} == {_N.DELIVERED}
        assert [len(one.parts) for one in probed.seen] == [0, 3]


# -- the hub stops and comes back


async def test_what_is_owed_when_the_hub_stops_is_sent_by_the_next_start(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'hub.db'}"
    async with hub_with_probe(tmp_path, storage=storage) as (hub, probed, _):
        probed.gate = asyncio.Event()
        await hub.put(TELL)
        await hub.run("t/f")
        await probed.arrived.wait()
        [first] = probed.seen
    async with hub_with_probe(tmp_path, storage=storage) as (hub, probed, _):
        [notice] = await hub.notices()
        assert (notice.state, notice.attempts) == (_N.DELIVERED, 0)
        assert [one.id for one in probed.seen] == [first.id]
        assert probed.attempts == [1]


async def test_a_notice_that_takes_the_hub_down_again_and_again_is_given_up(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'hub.db'}"
    settings = StorageSettings(storage, tmp_path, VirtualClock())
    notice = NewNotice("n", "oncall", {"subject": "x", "message": "y"}, VirtualClock().now())
    async with SqliteStorage.open(settings) as opened:
        await opened.accept([Arrival(notices=(notice,))], at=notice.due_at)
        for _ in range(5):
            await opened.claim_notices(at=notice.due_at, room={}, others=1)
            await opened.take_over(at=notice.due_at)
    async with hub_with_probe(tmp_path, storage=storage) as (hub, probed, _):
        [found] = await hub.notices()
        assert found.state is _N.DEAD
        assert "the hub went down 5 times while it was being sent" in (found.error or "")
        assert probed.seen == []
        await hub.node.notifications.retry("n")
        [found] = await hub.notices()
        assert found.state is _N.DELIVERED


async def test_a_stop_sends_what_is_due(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'hub.db'}"
    async with hub_with_probe(tmp_path, storage=storage) as (hub, probed, _):
        hub.node.notices_grace = 10.0
        await hub.put(TELL)
        for _ in range(5):
            await hub.run("t/f")
    assert len(probed.seen) == 5
