"""A flow's own time: its tasks are killed when it is over, and what comes after them still runs."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from hub.errors import InvalidFlow
from hub.model.execution import Execution, ExecutionState
from hub.testing import Harness, VirtualClock, harness

_S = ExecutionState


def flow(timeout: str, tasks: str, after: str = "") -> str:
    return f"id: f\nnamespace: t\ntimeout: {timeout}\ntasks:\n{tasks}\n{after}"


_AFTER = """errors:
  - {id: sorry, type: return, value: "{{ error.task }}: {{ error.message }}"}
finally:
  - {id: last, type: return, value: done}
"""
_SLOW = "  - {id: first, type: return, value: 1}\n  - {id: slow, type: script.shell, script: sleep 300}"
_NAP = "  - {id: nap, type: flow.sleep, duration: PT10H}\n  - {id: never, type: return}"


async def until(hub: Harness, execution_id: str, state: ExecutionState) -> Execution:
    async with asyncio.timeout(20):
        with hub.node.services.bus.subscribe("execution", "taskRun") as news:
            while (found := await hub.node.services.storage.execution(execution_id)).state is not state:
                await news.next()
    return found


async def states(hub: Harness, execution_id: str) -> dict[str, str]:
    return {path: run.state.value for path, run in (await hub.task_runs(execution_id)).items()}


async def test_tasks_are_killed_and_errors_and_finally_run(hub: Harness) -> None:
    await hub.put(flow("300ms", _SLOW, _AFTER))
    ended = await hub.run("t/f")
    assert (ended.state, ended.error) == (_S.FAILED, "timed out after PT0.3S")
    assert await states(hub, ended.id) == {
        "first": "SUCCESS", "slow": "KILLED", "sorry": "SUCCESS", "last": "SUCCESS",
    }  # fmt: skip
    runs = await hub.task_runs(ended.id)
    assert runs["sorry"].outputs == {"value": "f: timed out after PT0.3S"}


@pytest.mark.parametrize("kind", ["flow.parallel", "flow.sequential"])
async def test_groups_are_killed_with_all_inside(hub: Harness, kind: str) -> None:
    inner = "\n".join(
        f"      - {{id: s{n}, type: script.shell, script: sleep 300, retry: {{interval: PT1S, maxAttempts: 3}}}}"
        for n in range(2)
    )
    await hub.put(flow("300ms", f"  - id: group\n    type: {kind}\n    tasks:\n{inner}"))
    ended = await hub.run("t/f")
    assert ended.error == "timed out after PT0.3S"
    found = await states(hub, ended.id)
    assert set(found.values()) == {"KILLED"}
    assert "group" in found


async def test_a_waiting_execution_wakes_to_time_out(hub: Harness) -> None:
    await hub.put(flow("400ms", _NAP, _AFTER))
    started = await hub.start("t/f")
    waiting = await until(hub, started.id, _S.PAUSED)
    assert waiting.wake_at is not None
    assert waiting.started_at is not None
    assert waiting.wake_at - waiting.started_at == timedelta(seconds=0.4)
    ended = await hub.ended(started.id)
    assert (ended.state, ended.error) == (_S.FAILED, "timed out after PT0.4S")
    found = await states(hub, ended.id)
    assert (found["nap"], found["sorry"], found["last"], "never" in found) == (
        "KILLED",
        "SUCCESS",
        "SUCCESS",
        False,
    )


async def test_who_is_in_time_succeeds_however_long_finally_takes(hub: Harness) -> None:
    await hub.put(
        flow(
            "300ms",
            "  - {id: a, type: return, value: 1}",
            "finally: [{id: nap, type: flow.sleep, duration: 600ms}]\n",
        )
    )
    ended = await hub.run("t/f")
    assert (ended.state, ended.error) == (_S.SUCCESS, None)


async def test_a_failure_in_time_stays_that_failure(hub: Harness) -> None:
    await hub.put(
        flow(
            "300ms",
            "  - {id: a, type: execution.fail, message: oh}",
            "errors: [{id: nap, type: flow.sleep, duration: 600ms}]\n",
        )
    )
    assert (await hub.run("t/f")).error == 'task "a" failed: oh'


async def test_a_timeout_stays_one_while_what_follows_waits(hub: Harness) -> None:
    for tasks in (_SLOW, _NAP):
        await hub.put(
            flow(
                "200ms",
                tasks,
                "errors: [{id: nap2, type: flow.sleep, duration: 300ms}, {id: x, type: return}]\n",
            )
        )
        ended = await hub.run("t/f")
        assert ended.error == "timed out after PT0.2S"
        assert (await states(hub, ended.id))["x"] == "SUCCESS"


async def test_a_kill_is_a_kill(hub: Harness) -> None:
    await hub.put(flow("1h", _SLOW, _AFTER))
    started = await hub.start("t/f")
    await until(hub, started.id, _S.RUNNING)
    await hub.node.kill(started.id)
    ended = await hub.ended(started.id)
    assert ended.state is _S.KILLED
    assert "sorry" not in await states(hub, started.id)


async def test_a_restart_has_its_time_anew(hub: Harness, tmp_path: Path) -> None:
    await hub.put(
        flow("3s", f"  - {{id: once, type: script.shell, script: 'test -e {tmp_path}/go || sleep 300'}}")
    )
    first = await hub.run("t/f")
    assert first.error == "timed out after PT3S"
    (tmp_path / "go").write_text("")
    await hub.node.restart(first.id)
    again = await hub.ended(first.id)
    assert (again.state, again.restarts) == (_S.SUCCESS, 1)


async def test_the_time_is_stored_before_the_first_task_and_goes_on_while_the_hub_is_down(
    tmp_path: Path,
) -> None:
    clock = VirtualClock()
    url = f"sqlite:///{tmp_path / 'hub.db'}"
    async with harness(tmp_path, storage=url, clock=clock) as hub:
        await hub.put(flow("PT1H", _SLOW))
        with hub.node.services.bus.subscribe("taskRun", "execution") as news:
            started = await hub.start("t/f")
            while (await news.next()).details.get("path") != "first":
                pass
        running = await hub.node.services.storage.execution(started.id)
        assert running.started_at == clock.now()
    clock.advance(timedelta(hours=2))
    async with harness(tmp_path, storage=url, clock=clock) as hub:
        ended = await hub.ended(started.id)
        assert (ended.state, ended.error) == (_S.FAILED, "timed out after PT1H")
        assert (await states(hub, ended.id))["slow"] == "KILLED"


@pytest.mark.parametrize("text", ["PT0S", "soon", '"{{ 1 }}"', "[1]", "-5s"])
async def test_a_timeout_that_is_none_is_found_when_the_flow_is_saved(hub: Harness, text: str) -> None:
    with pytest.raises(InvalidFlow) as caught:
        await hub.put(flow(text, _SLOW))
    assert caught.value.problems[0].position.line == 3


async def test_a_very_long_timeout_is_one(hub: Harness) -> None:
    await hub.put(flow("P99999D", "  - {id: a, type: return, value: 1}"))
    assert (await hub.run("t/f")).state is _S.SUCCESS
