"""Flows that start flows: ends, events of others, subflows, and running again what has ended."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hub.errors import Conflict, InvalidFlow, NotFound
from hub.model.event import Occurrence
from hub.model.execution import Execution, ExecutionState
from hub.model.task_run import TaskRunState
from hub.plugin import TaskContext
from hub.plugin.storage import EventFilter, ExecutionFilter, Page
from hub.testing import Harness, harness
from tests.support.stage import Stage

_S = ExecutionState
_NOT_YOURS = 'types that begin with "hub." are the hub\'s own, got "hub.flow.finished"'
CHILD = """id: child
namespace: c
inputs: [{id: n, type: INT, defaults: 1}]
tasks:
  - {id: nap, type: flow.sleep, duration: 20ms}
  - {id: double, type: return, value: "{{ inputs.n * 2 }}"}
outputs: [{id: double, value: "{{ outputs.double.value }}"}]
"""


async def ended_of(hub: Harness, flow: str, count: int = 1) -> list[Execution]:
    """Wait until a flow has ``count`` executions that have ended, oldest first."""
    namespace, _, id = flow.partition("/")
    storage = hub.node.services.storage
    with hub.node.services.bus.subscribe("execution", size=10_000) as news:
        while True:
            found = await storage.executions(ExecutionFilter(namespace, id), Page(1000))
            ended = [one for one in found.items if one.state.is_terminal]
            if len(ended) >= count:
                return [await storage.execution(one.id) for one in reversed(ended)]
            async with asyncio.timeout(20):
                await news.next()


# ends


async def test_an_end_starts_the_flows_that_wait_for_it(hub: Harness) -> None:
    await hub.put(CHILD)
    await hub.put("""id: after
namespace: c
triggers:
  - {id: done, type: flow.finished, flow: child, inputs: {n: "{{ trigger.outputs.double }}"}}
  - {id: bad, type: flow.finished, flow: child, states: [FAILED]}
inputs: [{id: n, type: INT}]
tasks: [{id: say, type: return, value: "{{ inputs.n }} {{ trigger.state }} {{ trigger.flowId }}"}]
""")
    first = await hub.run("c/child", {"n": 4})
    [after] = await ended_of(hub, "c/after")
    assert (await hub.task_runs(after.id))["say"].outputs == {"value": "8 SUCCESS child"}
    assert (after.event_id, after.depth) == (f"{first.id}.SUCCESS", 1)


async def test_an_end_that_nobody_waits_for_is_no_event(hub: Harness) -> None:
    await hub.put(CHILD)
    await hub.run("c/child")
    assert (await hub.node.services.storage.events(EventFilter(), Page())).items == ()


async def test_labels_and_patterns_choose_the_ends(hub: Harness) -> None:
    await hub.put(CHILD)
    await hub.put("""id: after
namespace: d
triggers:
  - {id: all, type: flow.finished, namespace: "c*", labels: {team: a}}
tasks: [{id: say, type: log, message: x}]
""")
    for labels in ({"team": "b"}, {"team": "a"}, {}):
        started = await hub.node.intake.start(_key("c/child"), inputs={}, labels=labels)
        await hub.ended(started.id)
    [after] = await ended_of(hub, "d/after")
    assert after.trigger_data is not None
    assert after.trigger_data["labels"] == {"team": "a"}


async def test_a_flow_is_never_started_by_its_own_end(hub: Harness) -> None:
    await hub.put("""id: self
namespace: c
triggers:
  - {id: again, type: flow.finished, namespace: c, states: [SUCCESS]}
tasks: [{id: say, type: log, message: x}]
""")
    await hub.put(CHILD)
    await hub.run("c/child")
    [one] = await ended_of(hub, "c/self")
    await hub.run("c/child")
    assert len(await ended_of(hub, "c/self", 2)) == 2
    assert one.depth == 1


def waits_for(flow: str, other: str, more: str = "") -> str:
    return (
        f"id: {flow}\nnamespace: c\ntriggers:\n  - {{id: t, type: flow.finished, flow: {other}{more}}}\n"
        "tasks: [{id: say, type: log, message: x}]\n"
    )


async def test_a_flow_that_closes_a_loop_is_not_saved_until_the_others_change(hub: Harness) -> None:
    await hub.put(waits_for("a", "b"))
    await hub.put(waits_for("b", "child"))
    for _ in range(2):
        with pytest.raises(InvalidFlow) as refused:
            await hub.put(waits_for("b", "a"))
        assert "4:5  flow c/b would be started by its own ends, on and on: c/b → c/a → c/b" in str(
            refused.value
        )
    await hub.put(waits_for("a", "child"))
    await hub.put(waits_for("b", "a"))
    with pytest.raises(InvalidFlow):
        await hub.put(waits_for("a", "b"))
    await hub.node.catalog.retire(_key("c/b"))
    await hub.put(waits_for("a", "b"))


async def test_a_loop_of_failures_is_saved_with_a_warning(hub: Harness) -> None:
    await hub.put(waits_for("a", "b", ", states: [FAILED]"))
    stored = await hub.node.catalog.put(waits_for("b", "a", ", states: [FAILED]"))
    [warning] = stored.loaded.warnings
    assert "c/b (FAILED) → c/a (FAILED) → c/b" in warning.message


async def test_a_hub_that_was_started_again_knows_the_loops(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'hub.db'}"
    async with harness(tmp_path, storage=url) as hub:
        await hub.put(waits_for("a", "b"))
        await hub.put(waits_for("d", "b", ', when: "{{ false }}"'))
    async with harness(tmp_path, storage=url) as hub:
        with pytest.raises(InvalidFlow):
            await hub.put(waits_for("b", "a"))
        await hub.put(waits_for("b", "d"))


async def test_flows_that_start_each_other_stop_at_a_depth_and_leave_a_dead_letter(hub: Harness) -> None:
    for one, other in (("ping", "pong"), ("pong", "ping")):
        await hub.put(f"""id: {one}
namespace: c
triggers: [{{id: t, type: event.matched, event: {one}}}]
tasks: [{{id: emit, type: event.emit, event: {other}}}]
""")
    await hub.run("c/ping")
    await ended_of(hub, "c/pong", 10)
    await ended_of(hub, "c/ping", 11)
    dead = (await hub.node.services.storage.events(EventFilter(dead=True), Page())).items
    assert [(one.event.depth, one.verdicts[0].outcome) for one in dead] == [(21, "tooDeep")]


async def test_a_kill_is_an_end_too(hub: Harness) -> None:
    await hub.put(CHILD.replace("20ms", "PT1H"))
    await hub.put("""id: after
namespace: c
triggers: [{id: t, type: flow.finished, flow: child, states: [KILLED]}]
tasks: [{id: say, type: log, message: x}]
""")
    started = await hub.start("c/child")
    await _until(hub, started.id, _S.PAUSED)
    await hub.node.kill(started.id, "enough")
    [after] = await ended_of(hub, "c/after")
    assert after.trigger_data is not None
    assert (after.trigger_data["state"], after.trigger_data["error"]) == ("KILLED", "enough")


async def test_an_end_at_birth_is_an_end_too(hub: Harness) -> None:
    await hub.put(CHILD.replace("20ms", "PT1H") + "concurrency: {limit: 1, behavior: CANCEL}\n")
    await hub.put("""id: after
namespace: c
triggers: [{id: t, type: flow.finished, flow: child, states: [CANCELLED]}]
tasks: [{id: say, type: log, message: x}]
""")
    await hub.start("c/child")
    second = await hub.start("c/child")
    [after] = await ended_of(hub, "c/after")
    assert after.event_id == f"{second.id}.CANCELLED"


# events of others


async def test_an_emitted_event_starts_what_matches_and_says_why_the_others_did_not(hub: Harness) -> None:
    await hub.put("""id: emitter
namespace: c
tasks: [{id: emit, type: event.emit, event: shop.order.paid, data: {total: 7}, subject: o1}]
outputs: [{id: event, value: "{{ outputs.emit.eventId }}"}]
""")
    await hub.put("""id: wanting
namespace: c
triggers:
  - {id: yes, type: event.matched, event: "shop.*", when: "{{ trigger.total > 5 }}"}
  - {id: no, type: event.matched, event: "shop.order.*", when: "{{ trigger.total > 9 }}"}
  - {id: off, type: event.matched, event: "*", disabled: true}
  - {id: other, type: event.matched, event: "stock.*"}
tasks: [{id: say, type: return, value: "{{ trigger.total }}"}]
""")
    ended = await hub.run("c/emitter")
    [one] = await ended_of(hub, "c/wanting")
    assert one.trigger == "yes"
    assert ended.outputs is not None
    stored = await hub.node.services.storage.event(ended.outputs["event"])
    assert (stored.event.type, stored.event.subject, stored.event.depth) == ("shop.order.paid", "o1", 1)
    reasons = {v.trigger: (v.outcome, v.reason or "") for v in stored.verdicts}
    assert reasons["no"] == ("refused", "when is false: {{ trigger.total > 9 }} with trigger.total = 7")
    assert reasons["off"][0] == "disabled"
    assert set(reasons) == {"no", "off"}


async def test_a_task_cannot_forge_an_event_of_the_hub(hub: Harness, tmp_path: Path, stage: Stage) -> None:
    literal = "id: e\nnamespace: c\ntasks:\n  - {id: emit, type: event.emit, event: hub.flow.finished}\n"
    with pytest.raises(InvalidFlow) as refused:
        await hub.put(literal)
    [problem] = refused.value.problems
    assert (problem.position.line, problem.position.column) == (4, 41)
    assert problem.message.endswith(_NOT_YOURS)
    rendered = "inputs: [{id: t, type: STRING}]\n" + literal.replace("hub.flow.finished", '"{{ inputs.t }}"')
    await hub.put(rendered)
    ended = await hub.run("c/e", {"t": "hub.flow.finished"})
    assert ended.state is _S.FAILED
    assert _NOT_YOURS in str(ended.error)

    @stage.on("forge")
    async def forge(ctx: TaskContext) -> None:
        await ctx.emit(Occurrence({}, type="hub.flow.finished"))

    async with stage.hub(tmp_path / "other") as other:
        await other.put("id: e\nnamespace: c\ntasks: [{id: a, type: test.call, name: forge}]\n")
        ended = await other.run("c/e")
        assert _NOT_YOURS in str(ended.error)
        assert (await other.node.services.storage.events(EventFilter(), Page())).items == ()


async def test_a_retried_task_emits_its_event_once(hub: Harness) -> None:
    await hub.put("""id: emitter
namespace: c
tasks:
  - {id: emit, type: event.emit, event: paid}
  - {id: same, type: event.emit, event: paid, deliveryId: order-1}
""")
    await hub.run("c/emitter")
    await hub.run("c/emitter")
    events = (await hub.node.services.storage.events(EventFilter(), Page())).items
    assert sorted(one.repeats for one in events) == [0, 0, 1]


# subflows


async def test_a_subflow_gives_its_outputs_and_a_waiting_parent_holds_no_claim(hub: Harness) -> None:
    await hub.put(CHILD)
    await hub.put("""id: parent
namespace: c
tasks:
  - id: each
    type: flow.loop
    values: [1, 2, 3]
    tasks:
      - {id: sub, type: flow.subflow, flowId: child, inputs: {n: "{{ item.value }}"}}
      - {id: keep, type: return, value: "{{ outputs.sub.outputs.double }}"}
""")
    ended = await hub.run("c/parent")
    runs = await hub.task_runs(ended.id)
    assert [runs[f"each[{n}]/keep"].outputs for n in range(3)] == [{"value": 2}, {"value": 4}, {"value": 6}]
    children = await ended_of(hub, "c/child", 3)
    assert {one.parent.path for one in children if one.parent} == {f"each[{n}]/sub" for n in range(3)}


async def test_a_childs_end_reaches_its_leaf_while_a_sibling_runs(hub: Harness) -> None:
    await hub.put(CHILD)
    await hub.put("""id: parent
namespace: c
tasks:
  - id: both
    type: flow.parallel
    tasks:
      - {id: long, type: script.shell, script: "read line < \\"$FIFO\\"", env: {FIFO: "{{ inputs.fifo }}"}}
      - id: short
        type: flow.sequential
        tasks:
          - {id: sub, type: flow.subflow, flowId: child}
          - {id: free, type: script.shell, script: "echo go > \\"$FIFO\\"", env: {FIFO: "{{ inputs.fifo }}"}}
inputs: [{id: fifo, type: STRING}]
""")
    import os

    fifo = hub.node.services.work_dir.parent / "fifo"
    os.mkfifo(fifo)
    ended = await hub.run("c/parent", {"fifo": str(fifo)})
    assert ended.state is _S.SUCCESS


@pytest.mark.parametrize(("transmit", "state"), [("true", _S.FAILED), ("false", _S.SUCCESS)])
async def test_a_failed_subflow_fails_its_task_where_wanted(
    hub: Harness, transmit: str, state: ExecutionState
) -> None:
    await hub.put("id: child\nnamespace: c\ntasks: [{id: no, type: execution.fail, message: broken}]\n")
    await hub.put(f"""id: parent
namespace: c
tasks: [{{id: sub, type: flow.subflow, flowId: child, transmitFailed: {transmit}}}]
""")
    ended = await hub.run("c/parent")
    assert ended.state is state
    assert "broken" in ((ended.error or "") if state is _S.FAILED else "broken")


async def test_a_subflow_that_nobody_waits_for_goes_on_alone(hub: Harness) -> None:
    await hub.put(CHILD)
    await hub.put(
        "id: parent\nnamespace: c\ntasks: [{id: sub, type: flow.subflow, flowId: child, wait: false}]\n"
    )
    ended = await hub.run("c/parent")
    [child] = await ended_of(hub, "c/child")
    assert (ended.state, child.parent) == (_S.SUCCESS, None)


async def test_a_retried_subflow_is_a_new_execution(hub: Harness) -> None:
    await hub.put("id: child\nnamespace: c\ntasks: [{id: no, type: execution.fail}]\n")
    await hub.put("""id: parent
namespace: c
tasks: [{id: sub, type: flow.subflow, flowId: child, retry: {interval: 10ms, maxAttempts: 3}}]
""")
    await hub.run("c/parent")
    assert len(await ended_of(hub, "c/child", 3)) == 3


async def test_a_kill_reaches_every_child(hub: Harness) -> None:
    await hub.put(CHILD.replace("20ms", "PT1H"))
    await hub.put("id: middle\nnamespace: c\ntasks: [{id: sub, type: flow.subflow, flowId: child}]\n")
    await hub.put("id: top\nnamespace: c\ntasks: [{id: sub, type: flow.subflow, flowId: middle}]\n")
    top = await hub.start("c/top")
    await _until_any(hub, "c/child", _S.PAUSED)
    await hub.node.kill(top.id)
    states = {}
    for flow in ("c/top", "c/middle", "c/child"):
        [one] = await ended_of(hub, flow)
        states[flow] = one.state
    assert set(states.values()) == {_S.KILLED}


# again


async def test_a_restart_runs_only_what_had_not_completed(hub: Harness) -> None:
    switch = hub.node.services.work_dir.parent / "switch"
    await hub.put("""id: f
namespace: c
inputs: [{id: switch, type: STRING}]
tasks:
  - {id: first, type: script.shell, script: "echo once >> \\"$F.log\\"", env: {F: "{{ inputs.switch }}"}}
  - id: each
    type: flow.loop
    values: "{{ [now(), now()] }}"
    tasks:
      - {id: keep, type: return, value: "{{ item.value }}"}
      - {id: need, type: script.shell, script: "test -e \\"$F\\"", env: {F: "{{ inputs.switch }}"}}
errors: [{id: alarm, type: return, value: "{{ error.task }}"}]
finally: [{id: clean, type: return, value: done}]
""")
    failed = await hub.run("c/f", {"switch": str(switch)})
    assert failed.state is _S.FAILED
    before = await hub.task_runs(failed.id)
    assert before["alarm"].state is TaskRunState.SUCCESS
    switch.touch()
    again = await hub.node.again.restart(failed.id)
    assert (again.state, again.restarts) == (_S.CREATED, 1)
    hub.node.dispatcher.poke()
    ended = await hub.ended(failed.id)
    after = await hub.task_runs(failed.id)
    assert ended.state is _S.SUCCESS
    assert (switch.parent / "switch.log").read_text() == "once\n"
    assert after["each[0]/keep"] == before["each[0]/keep"]
    assert "alarm" not in after
    assert after["each[0]/need"].attempts == 2


_TOLERANT = """id: f
namespace: c
inputs: [{id: switch, type: STRING}]
tasks:
  - id: each
    type: flow.loop
    values: [1, 2]
    tasks:
      - id: group
        type: flow.sequential
        allowFailure: true
        tasks:
          - {id: fine, type: return, value: 1}
          - {id: no, type: execution.fail, message: no}
  - {id: need, type: script.shell, script: 'test -e "$F"', env: {F: "{{ inputs.switch }}"}}
"""


async def test_a_restart_leaves_a_group_that_is_complete_as_it_is(hub: Harness) -> None:
    switch = hub.node.services.work_dir.parent / "switch"
    await hub.put(_TOLERANT)
    failed = await hub.run("c/f", {"switch": str(switch)})
    before = await hub.task_runs(failed.id)
    assert (failed.state, before["each[1]/group/no"].state.value) == (_S.FAILED, "FAILED")
    switch.touch()
    await hub.node.restart(failed.id)
    ended = await hub.ended(failed.id)
    after = await hub.task_runs(failed.id)
    assert ended.state is _S.WARNING
    for path in ("each[0]/group", "each[0]/group/no", "each[1]/group/no", "each[1]/group/fine"):
        assert after[path] == before[path]


async def test_a_replay_takes_over_a_group_with_all_that_is_in_it(hub: Harness) -> None:
    switch = hub.node.services.work_dir.parent / "switch"
    switch.touch()
    await hub.put(_TOLERANT)
    first = await hub.run("c/f", {"switch": str(switch)})
    replayed = await hub.node.again.replay(first.id, from_task="need")
    ended = await hub.ended(replayed.execution.id)
    before, after = await hub.task_runs(first.id), await hub.task_runs(ended.id)
    assert (ended.state, first.state) == (_S.WARNING, _S.WARNING)
    assert {path: run for path, run in after.items() if path != "need"} == {
        path: run for path, run in before.items() if path != "need"
    }


async def test_what_succeeded_or_runs_cannot_be_restarted(hub: Harness) -> None:
    await hub.put(CHILD)
    ended = await hub.run("c/child")
    with pytest.raises(Conflict, match="SUCCESS"):
        await hub.node.again.restart(ended.id)


async def test_a_replay_has_other_inputs_and_says_whose_it_is(hub: Harness) -> None:
    await hub.put(CHILD)
    first = await hub.run("c/child", {"n": 2})
    replayed = await hub.node.again.replay(first.id, inputs={"n": 5}, labels={"why": "test"})
    ended = await hub.ended(replayed.execution.id)
    assert (ended.outputs, ended.replay_of, ended.labels) == ({"double": 10}, first.id, {"why": "test"})


async def test_a_replay_from_a_task_takes_over_what_came_before(hub: Harness) -> None:
    await hub.put("""id: f
namespace: c
tasks:
  - {id: a, type: return, value: "{{ now() }}"}
  - id: group
    type: flow.sequential
    tasks:
      - {id: b, type: return, value: "{{ now() }}"}
      - {id: c, type: return, value: "{{ now() }}"}
  - {id: d, type: return, value: "{{ outputs.a.value }}"}
""")
    first = await hub.run("c/f")
    replayed = await hub.node.again.replay(first.id, from_task="c")
    ended = await hub.ended(replayed.execution.id)
    before, after = await hub.task_runs(first.id), await hub.task_runs(ended.id)
    taken_over = {path for path in after if after[path].ended_at == before[path].ended_at}
    assert taken_over == {"a", "group/b"}
    assert (ended.state, after["d"].outputs) == (_S.SUCCESS, before["a"].outputs)


async def test_a_replay_on_another_revision_names_what_is_gone(hub: Harness) -> None:
    source = "id: f\nnamespace: c\ntasks:\n  - {id: old, type: return, value: 1}\n  - {id: b, type: return, value: 2}\n"
    await hub.put(source)
    first = await hub.run("c/f")
    await hub.put(source.replace("old", "new"))
    replayed = await hub.node.again.replay(first.id, revision=2, from_task="b")
    ended = await hub.ended(replayed.execution.id)
    assert (replayed.gone, ended.revision, ended.state) == (("old",), 2, _S.SUCCESS)
    assert set(await hub.task_runs(ended.id)) == {"new", "b"}
    with pytest.raises(NotFound, match="old"):
        await hub.node.again.replay(first.id, revision=2, from_task="old")


async def test_a_replayed_event_starts_what_wants_it_now(hub: Harness) -> None:
    await hub.put("""id: emitter
namespace: c
tasks: [{id: emit, type: event.emit, event: paid, data: {n: 1}}]
""")
    await hub.run("c/emitter")
    [stored] = (await hub.node.services.storage.events(EventFilter(), Page())).items
    await hub.put("""id: late
namespace: c
triggers: [{id: t, type: event.matched, event: paid}]
tasks: [{id: say, type: return, value: "{{ trigger.n }}"}]
""")
    receipt = await hub.node.again.replay_event(stored.event.id)
    [late] = await ended_of(hub, "c/late")
    assert receipt.execution_ids == (late.id,)
    assert late.replay_of == stored.event.id
    assert (await hub.node.services.storage.event(receipt.event_id)).event.replay_of == stored.event.id


# control


async def test_a_concurrency_key_may_name_variables_and_inputs_with_defaults(hub: Harness) -> None:
    await hub.put("""id: f
namespace: c
inputs: [{id: customer, type: STRING, defaults: anon}]
variables: {shop: berlin}
concurrency: {limit: 1, key: "{{ vars.shop }}-{{ inputs.customer }}", behavior: CANCEL}
tasks: [{id: nap, type: flow.sleep, duration: PT1H}]
""")
    await hub.start("c/f")
    second, other = await hub.start("c/f"), await hub.start("c/f", {"customer": "ada"})
    assert (second.state, other.state.is_terminal) == (_S.CANCELLED, False)


async def test_a_switch_takes_the_case_of_its_value(hub: Harness) -> None:
    await hub.put("""id: f
namespace: c
inputs: [{id: v, type: JSON}]
tasks:
  - id: by
    type: flow.switch
    value: "{{ inputs.v }}"
    cases:
      "1": [{id: one, type: return, value: one}]
      "true": [{id: yes, type: return, value: yes}]
    defaults: [{id: other, type: return, value: other}]
  - {id: end, type: return, value: "{{ outputs.one.value ?? outputs.yes.value ?? outputs.other.value }}"}
""")
    for value, expected in ((1, "one"), (True, "yes"), ("1", "one"), ([], "other")):
        ended = await hub.run("c/f", {"v": value})
        assert (await hub.task_runs(ended.id))["end"].outputs == {"value": expected}


def _key(flow: str) -> Any:
    from hub.model.ids import FlowKey

    return FlowKey(*flow.split("/"))


async def _until(hub: Harness, execution_id: str, state: ExecutionState) -> None:
    storage = hub.node.services.storage
    with hub.node.services.bus.subscribe("execution", size=10_000) as news:
        while (await storage.execution(execution_id)).state is not state:
            async with asyncio.timeout(20):
                await news.next()


async def _until_any(hub: Harness, flow: str, state: ExecutionState) -> None:
    namespace, _, id = flow.partition("/")
    storage = hub.node.services.storage
    with hub.node.services.bus.subscribe("execution", size=10_000) as news:
        while not (await storage.executions(ExecutionFilter(namespace, id, (state,)), Page())).items:
            async with asyncio.timeout(20):
                await news.next()
