"""How an execution moves: order, outputs, groups, failures, errors and finally."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hub.errors import InvalidFlow
from hub.model.execution import Execution, ExecutionState
from hub.model.task_run import TaskRunState
from hub.testing import Harness

_HEAD = "id: f\nnamespace: t\n"


async def run(hub: Harness, body: str, inputs: dict[str, Any] | None = None) -> Execution:
    await hub.put(_HEAD + body)
    return await hub.run("t/f", inputs)


async def outputs(hub: Harness, body: str, inputs: dict[str, Any] | None = None) -> Any:
    ended = await run(hub, body, inputs)
    assert ended.error is None
    return ended.outputs


async def test_a_later_task_sees_the_outputs_of_an_earlier_one(hub: Harness) -> None:
    body = """
tasks:
  - {id: one, type: return, value: [1, {a: true}]}
  - {id: two-b, type: return, value: "{{ outputs.one.value[1].a }}"}
outputs:
  - {id: kept, type: JSON, value: "{{ outputs['two-b'].value }}"}
"""
    assert await outputs(hub, body) == {"kept": True}


async def test_a_single_expression_keeps_its_type_and_text_around_it_makes_text(hub: Harness) -> None:
    body = """
inputs: [{id: n, type: INT}]
tasks:
  - {id: a, type: return, value: "{{ inputs.n + 1 }}"}
  - {id: b, type: return, value: "n={{ inputs.n }}"}
outputs:
  - {id: a, type: INT, value: "{{ outputs.a.value }}"}
  - {id: b, type: STRING, value: "{{ outputs.b.value }}"}
"""
    assert await outputs(hub, body, {"n": "4"}) == {"a": 5, "b": "n=4"}


async def test_outputs_are_of_the_types_that_they_declare(hub: Harness) -> None:
    body = """
tasks:
  - {id: a, type: return, value: "1000"}
outputs:
  - {id: whole, type: INT, value: "{{ outputs.a.value }}"}
  - {id: number, type: FLOAT, value: "{{ outputs.a.value }}"}
  - {id: text, type: STRING, value: "{{ 1000 }}"}
  - {id: truth, type: BOOLEAN, value: "{{ 'true' }}"}
  - {id: any, value: "{{ outputs.a.value }}"}
  - {id: none, type: INT, value: "{{ null }}"}
"""
    assert await outputs(hub, body) == {
        "whole": 1000, "number": 1000.0, "text": "1000", "truth": True, "any": "1000", "none": None
    }  # fmt: skip
    ended = await run(hub, body.replace('value: "1000"', 'value: "many"'))
    assert ended.state is ExecutionState.FAILED
    assert ended.error == 'output "whole": expected a whole number, got "many" (its type is INT)'


async def test_a_task_whose_guard_is_false_is_skipped(hub: Harness) -> None:
    body = """
tasks:
  - {id: no, type: execution.fail, when: "{{ 1 > 2 }}"}
  - {id: yes, type: return, when: "true", value: 1}
"""
    ended = await run(hub, body)
    runs = await hub.task_runs(ended.id)
    assert ended.state is ExecutionState.SUCCESS
    assert [runs[name].state for name in ("no", "yes")] == [TaskRunState.SKIPPED, TaskRunState.SUCCESS]


async def test_errors_then_finally_run_after_a_failure(hub: Harness) -> None:
    body = """
tasks:
  - {id: stop, type: execution.fail, message: too bad}
  - {id: never, type: log, message: never}
errors:
  - {id: alarm, type: log, message: "{{ error.task }}: {{ error.message }}"}
finally:
  - {id: end, type: log, message: the end}
"""
    ended = await run(hub, body)
    assert ended.state is ExecutionState.FAILED
    assert ended.error == 'task "stop" failed: too bad'
    messages = [line.message for line in await hub.logs(ended.id)]
    assert messages == ["too bad", "stop: too bad", "the end"]
    assert "never" not in await hub.task_runs(ended.id)


_INSIDE = {
    "sequential": "{id: outer, type: flow.sequential, tasks: [{id: ok, type: log, message: x}, BAD]}",
    "parallel": "{id: outer, type: flow.parallel, tasks: [{id: ok, type: log, message: x}, BAD]}",
    "loop": "{id: outer, type: flow.loop, values: [1, 2], tasks: [BAD]}",
    "side by side": "{id: outer, type: flow.loop, values: [1, 2], concurrencyLimit: 2, tasks: [BAD]}",
    "deep": "{id: outer, type: flow.loop, values: [1], tasks: [{id: g, type: flow.if, condition: true, then: [BAD]}]}",
    "guard": "{id: outer, type: flow.sequential, tasks: [{id: bad, type: log, message: x, when: '{{ 1 / (labels | length) }}'}]}",
}


@pytest.mark.parametrize("kind", sorted(_INSIDE))
async def test_the_task_that_failed_is_named_and_not_the_group_around_it(hub: Harness, kind: str) -> None:
    bad = "{id: bad, type: execution.fail, message: too bad}"
    body = f"""
tasks: [{_INSIDE[kind].replace("BAD", bad)}]
errors: [{{id: alarm, type: return, value: "{{{{ error.task }}}}"}}]
finally: [{{id: end, type: return, value: "{{{{ error.task }}}}"}}]
"""
    ended = await run(hub, body)
    runs = await hub.task_runs(ended.id)
    assert {name: runs[name].outputs for name in ("alarm", "end")} == {
        "alarm": {"value": "bad"},
        "end": {"value": "bad"},
    }


async def test_a_group_whose_own_time_is_over_is_what_failed(hub: Harness) -> None:
    body = """
tasks:
  - {id: outer, type: flow.sequential, timeout: PT0.2S, tasks: [{id: nap, type: script.shell, script: sleep 9}]}
errors: [{id: alarm, type: return, value: "{{ error.task }}"}]
"""
    ended = await run(hub, body)
    assert (await hub.task_runs(ended.id))["alarm"].outputs == {"value": "outer"}


async def test_finally_runs_after_success_and_errors_do_not(hub: Harness) -> None:
    body = """
tasks: [{id: a, type: log, message: a}]
errors: [{id: e, type: log, message: e}]
finally: [{id: z, type: log, message: z}]
"""
    ended = await run(hub, body)
    assert ended.state is ExecutionState.SUCCESS
    assert sorted(await hub.task_runs(ended.id)) == ["a", "z"]


async def test_an_allowed_failure_is_a_warning(hub: Harness) -> None:
    body = """
tasks:
  - {id: a, type: execution.fail, allowFailure: true}
  - {id: b, type: return, value: 1}
"""
    ended = await run(hub, body)
    assert ended.state is ExecutionState.WARNING
    assert (await hub.task_runs(ended.id))["a"].state is TaskRunState.WARNING


async def test_branches_of_an_if_are_chosen_by_its_condition(hub: Harness) -> None:
    body = """
inputs: [{id: n, type: INT}]
tasks:
  - id: check
    type: flow.if
    condition: "{{ inputs.n > 2 }}"
    then: [{id: big, type: return, value: big}]
    else: [{id: small, type: return, value: small}]
  - {id: which, type: return, value: "{{ outputs.big.value ?? outputs.small.value }}"}
outputs: [{id: which, type: STRING, value: "{{ outputs.which.value }}"}]
"""
    assert await outputs(hub, body, {"n": 3}) == {"which": "big"}
    assert (await hub.run("t/f", {"n": 1})).outputs == {"which": "small"}


async def test_a_loop_runs_its_tasks_for_every_value(hub: Harness) -> None:
    body = """
tasks:
  - id: each
    type: flow.loop
    values: "{{ [10, 20, 30] }}"
    tasks:
      - {id: a, type: return, value: "{{ item.value + item.index }}"}
      - {id: b, type: return, value: "{{ outputs.a.value * 2 }}"}
outputs: [{id: n, type: INT, value: "{{ outputs.each.iterationCount }}"}]
"""
    ended = await run(hub, body)
    assert ended.outputs == {"n": 3}
    runs = await hub.task_runs(ended.id)
    assert [runs[f"each[{n}]/b"].outputs for n in range(3)] == [{"value": 20}, {"value": 42}, {"value": 64}]


async def test_a_loop_over_a_mapping_gives_its_keys(hub: Harness) -> None:
    body = """
tasks:
  - id: each
    type: flow.loop
    values: {x: 1, y: 2}
    tasks: [{id: a, type: return, value: "{{ item.key }}{{ item.value }}"}]
"""
    ended = await run(hub, body)
    runs = await hub.task_runs(ended.id)
    assert {runs[f"each[{n}]/a"].outputs["value"] for n in range(2)} == {"x1", "y2"}  # type: ignore[index]


async def test_an_inner_loop_sees_the_outer_item_as_its_parent(hub: Harness) -> None:
    body = """
tasks:
  - id: outer
    type: flow.loop
    values: [1, 2]
    tasks:
      - id: inner
        type: flow.loop
        values: [10]
        tasks: [{id: a, type: return, value: "{{ item.parent.value * item.value }}"}]
"""
    ended = await run(hub, body)
    runs = await hub.task_runs(ended.id)
    assert [runs[f"outer[{n}]/inner[0]/a"].outputs for n in range(2)] == [{"value": 10}, {"value": 20}]


async def test_a_failed_iteration_fails_the_loop_with_its_reason(hub: Harness) -> None:
    body = """
tasks:
  - id: each
    type: flow.loop
    values: [1, 2, 3]
    concurrencyLimit: 1
    tasks: [{id: a, type: execution.fail, when: "{{ item.value == 2 }}", message: two is bad}]
"""
    ended = await run(hub, body)
    assert ended.state is ExecutionState.FAILED
    assert "two is bad" in (ended.error or "")
    assert "each[2]/a" not in await hub.task_runs(ended.id)


async def test_an_empty_loop_succeeds(hub: Harness) -> None:
    ended = await run(
        hub, "tasks: [{id: e, type: flow.loop, values: [], tasks: [{id: a, type: log, message: x}]}]"
    )
    assert ended.state is ExecutionState.SUCCESS


async def test_parallel_tasks_all_run_and_one_failure_fails_the_group(hub: Harness) -> None:
    body = """
tasks:
  - id: both
    type: flow.parallel
    tasks:
      - {id: a, type: return, value: 1}
      - {id: b, type: execution.fail, message: b is bad}
      - {id: c, type: return, value: 3}
"""
    ended = await run(hub, body)
    assert ended.state is ExecutionState.FAILED
    runs = await hub.task_runs(ended.id)
    assert (runs["both/a"].state, runs["both/b"].state) == (TaskRunState.SUCCESS, TaskRunState.FAILED)


async def test_a_secret_never_reaches_logs_or_errors(hub: Harness) -> None:
    body = """
tasks:
  - {id: a, type: log, message: "token {{ secret('TOKEN') }}"}
  - {id: b, type: execution.fail, message: "no {{ secret('TOKEN') }}"}
"""
    ended = await run(hub, body)
    messages = " ".join(line.message for line in await hub.logs(ended.id))
    assert "s3cr3t-value" not in messages + (ended.error or "")
    assert "token ******" in messages


async def test_a_missing_secret_fails_the_task_and_says_where_to_put_it(hub: Harness) -> None:
    ended = await run(hub, "tasks: [{id: a, type: log, message: \"{{ secret('NOPE') }}\"}]")
    assert 'no secret "NOPE"' in (ended.error or "")
    assert "HUB_SECRET_NOPE" in (ended.error or "")


async def test_a_missing_member_fails_the_task_and_names_the_path(hub: Harness) -> None:
    body = "inputs: [{id: d, type: JSON}]\ntasks: [{id: a, type: return, value: '{{ inputs.d.x.y }}'}]"
    ended = await run(hub, body, {"d": {"x": {}}})
    assert '"inputs.d.x.y" is missing' in (ended.error or "")


async def test_large_outputs_go_to_the_file_store_and_come_back(hub: Harness, tmp_path: Any) -> None:
    body = """
tasks:
  - {id: big, type: return, value: "{{ 'x' * 100000 }}"}
  - {id: size, type: return, value: "{{ outputs.big.value | length }}"}
outputs: [{id: n, type: INT, value: "{{ outputs.size.value }}"}]
"""
    assert await outputs(hub, body) == {"n": 100000}
    assert list((tmp_path / "files").rglob("*.json"))


async def test_a_disabled_task_is_passed_over(hub: Harness) -> None:
    ended = await run(
        hub, "tasks: [{id: a, type: execution.fail, disabled: true}, {id: b, type: log, message: b}]"
    )
    assert ended.state is ExecutionState.SUCCESS


async def test_a_broken_flow_is_not_saved(hub: Harness) -> None:
    with pytest.raises(InvalidFlow, match="unknown input"):
        await hub.put(_HEAD + "tasks: [{id: a, type: log, message: '{{ inputs.nope }}'}]")


async def test_a_retry_on_a_group_is_not_saved(hub: Harness) -> None:
    group = "{id: g, type: flow.sequential, retry: {maxAttempts: 2}, tasks: [{id: a, type: log, message: x}]}"
    with pytest.raises(InvalidFlow, match="retry: a group is not tried again as a whole") as refused:
        await hub.put(_HEAD + f"tasks: [{group}]")
    assert "tasks inside" in refused.value.problems[0].text()


@pytest.mark.parametrize(
    ("value", "got"), [(None, "null"), (5, "5"), (True, "true"), ("abc", "text that is not JSON"), ("7", "7")]
)
async def test_a_loop_over_what_is_no_list_says_what_it_got(hub: Harness, value: Any, got: str) -> None:
    body = """
inputs: [{id: d, type: JSON}]
tasks: [{id: each, type: flow.loop, values: "{{ inputs.d.v }}", tasks: [{id: a, type: log, message: x}]}]
"""
    ended = await run(hub, body, {"d": {"v": value}})
    assert ended.state is ExecutionState.FAILED
    assert f"values: expected a list or a mapping, got {got}" in (ended.error or "")


async def test_variables_are_rendered_once_for_all_tasks(hub: Harness) -> None:
    body = """
inputs: [{id: n, type: INT, defaults: 2}]
variables: {base: "v{{ inputs.n }}", list: [1, 2]}
tasks: [{id: a, type: return, value: "{{ vars.base }}-{{ vars.list | length }}"}]
outputs: [{id: a, type: STRING, value: "{{ outputs.a.value }}"}]
"""
    assert await outputs(hub, body) == {"a": "v2-2"}


async def test_a_killed_execution_ends_killed(hub: Harness) -> None:
    await hub.put(_HEAD + "tasks: [{id: a, type: script.shell, script: sleep 60}]")
    started = await hub.start("t/f")
    # one that is not begun yet would be CANCELLED
    while (await hub.node.services.storage.execution(started.id)).state is not ExecutionState.RUNNING:
        await asyncio.sleep(0.01)
    await hub.node.kill(started.id)
    assert (await hub.ended(started.id)).state is ExecutionState.KILLED
