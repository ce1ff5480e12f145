"""Retries, time-outs, sleeping: what waits costs nothing and comes back on time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hub.model.durations import parse_duration
from hub.model.execution import ExecutionState
from hub.model.flow import RetryPolicy, RetryType
from hub.model.task_run import TaskRunState
from hub.testing import Harness, VirtualClock, harness

AT = datetime(2026, 1, 1, tzinfo=UTC)


async def test_a_failing_task_is_tried_again_until_it_succeeds(hub: Harness) -> None:
    source = """id: f
namespace: t
tasks:
  - id: flaky
    type: script.shell
    script: test "$HUB_ATTEMPT" = 3
    retry: {type: constant, interval: 10ms, maxAttempts: 5}
"""
    await hub.put(source)
    ended = await hub.run("t/f")
    run = (await hub.task_runs(ended.id))["flaky"]
    assert (ended.state, run.attempts) == (ExecutionState.SUCCESS, 3)


async def test_a_failing_task_fails_when_its_attempts_are_used_up(hub: Harness) -> None:
    source = """id: f
namespace: t
tasks:
  - id: flaky
    type: script.shell
    script: exit 7
    retry: {type: constant, interval: 10ms, maxAttempts: 2}
"""
    await hub.put(source)
    ended = await hub.run("t/f")
    run = (await hub.task_runs(ended.id))["flaky"]
    assert (ended.state, run.attempts, run.error) == (ExecutionState.FAILED, 2, "exit code 7")


def test_exponential_delays_grow_and_stop_at_the_longest() -> None:
    policy = RetryPolicy(RetryType.EXPONENTIAL, timedelta(seconds=1), timedelta(seconds=10))
    assert [policy.delay_after(n).total_seconds() for n in range(1, 7)] == [1, 2, 4, 8, 10, 10]


def test_jitter_shortens_a_delay_by_at_most_half() -> None:
    policy = RetryPolicy(RetryType.CONSTANT, timedelta(seconds=8), jitter=True)
    delays = {policy.delay_after(1).total_seconds() for _ in range(200)}
    assert len(delays) > 100
    assert 4 <= min(delays) <= max(delays) <= 8


def test_random_delays_lie_between_the_bounds() -> None:
    policy = RetryPolicy(RetryType.RANDOM, timedelta(seconds=2), timedelta(seconds=5))
    delays = [policy.delay_after(n).total_seconds() for n in range(1, 200)]
    assert 2 <= min(delays) < 3 < 4 < max(delays) <= 5


def test_no_attempt_begins_after_the_longest_duration() -> None:
    policy = RetryPolicy(interval=timedelta(seconds=5), max_duration=timedelta(seconds=12))
    assert policy.next_attempt_at(attempt=1, first_at=AT, failed_at=AT + timedelta(seconds=6)) is not None
    assert policy.next_attempt_at(attempt=2, first_at=AT, failed_at=AT + timedelta(seconds=8)) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT30S", 30),
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("P1DT2H", 93600),
        ("PT0.5S", 0.5),
        ("250ms", 0.25),
    ],
)
def test_durations_are_read_in_both_spellings(text: str, seconds: float) -> None:
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "5", "P", "PT", "P1M", "1 parsec", "5x", "PT5"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


async def test_a_task_that_takes_too_long_fails(hub: Harness) -> None:
    await hub.put(
        "id: f\nnamespace: t\ntasks: [{id: s, type: script.shell, script: sleep 60, timeout: 200ms}]"
    )
    ended = await hub.run("t/f")
    assert ended.error == 'task "s" failed: timed out after PT0.2S'


async def test_a_group_that_takes_too_long_is_ended_with_what_runs_in_it(hub: Harness) -> None:
    source = """id: f
namespace: t
tasks:
  - id: group
    type: flow.sequential
    timeout: 300ms
    tasks:
      - {id: s, type: script.shell, script: sleep 60}
"""
    await hub.put(source)
    ended = await hub.run("t/f")
    runs = await hub.task_runs(ended.id)
    assert ended.state is ExecutionState.FAILED
    assert "timed out" in (runs["group"].error or "")
    assert runs["group/s"].state is TaskRunState.KILLED


_SLEEP = "id: s\nnamespace: t\ntasks: [{id: z, type: flow.sleep, duration: PT1H}, {id: after, type: return, value: 1}]"


async def test_a_sleeping_execution_waits_for_the_wall_clock(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with harness(tmp_path, clock=clock) as hub:
        await hub.put(_SLEEP)
        with hub.node.services.bus.subscribe("execution") as news:
            started = await hub.start("t/s")
            while (await news.next()).details["state"] != "PAUSED":
                pass
            clock.advance(timedelta(minutes=59))
            hub.node.dispatcher.poke()
            await asyncio.sleep(0.05)
            assert (await hub.node.services.storage.execution(started.id)).state is ExecutionState.PAUSED
            clock.advance(timedelta(minutes=2))
            hub.node.dispatcher.poke()
        ended = await hub.ended(started.id)
        assert ended.state is ExecutionState.SUCCESS
        assert ended.ended_at is not None
        assert ended.ended_at - ended.created_at == timedelta(minutes=61)


async def test_a_sleeping_execution_holds_no_place_among_the_running(tmp_path: Path) -> None:
    async with harness(tmp_path, most_executions=2) as hub:
        await hub.put(_SLEEP)
        await hub.put("id: q\nnamespace: t\ntasks: [{id: a, type: return, value: 1}]")
        for _ in range(10):
            await hub.start("t/s")
        assert (await hub.run("t/q")).state is ExecutionState.SUCCESS


async def test_a_retry_that_waits_goes_on_after_a_restart(tmp_path: Path) -> None:
    clock = VirtualClock()
    url = f"sqlite:///{tmp_path / 'hub.db'}"
    source = """id: r
namespace: t
tasks:
  - {id: once, type: return, value: "{{ now() }}"}
  - id: flaky
    type: script.shell
    script: test "$HUB_ATTEMPT" = 2
    retry: {type: constant, interval: PT1H, maxAttempts: 3}
outputs: [{id: at, type: STRING, value: "{{ outputs.once.value }}"}]
"""
    async with harness(tmp_path, storage=url, clock=clock) as hub:
        await hub.put(source)
        with hub.node.services.bus.subscribe("execution") as news:
            started = await hub.start("t/r")
            while (await news.next()).details["state"] != "RETRYING":
                pass
    clock.advance(timedelta(hours=2))
    async with harness(tmp_path, storage=url, clock=clock) as hub:
        ended = await hub.ended(started.id)
        runs = await hub.task_runs(started.id)
        assert ended.state is ExecutionState.SUCCESS
        assert runs["flaky"].attempts == 2
        assert ended.outputs == {"at": "2026-01-01T00:00:00.000Z"}
