"""What every task promises, as tests: subclass ``TaskContract`` and say which task and which call.

::

    class TestGreet(TaskContract):
        task = Greet

        @pytest.fixture
        def fields(self):
            return {"name": "Ada"}
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from hub.engine.watchdog import LoopWatchdog
from hub.plugin.component import field_roles
from hub.plugin.task import Task
from hub.testing.contracts.described import check_data, check_described, check_examples
from hub.testing.kit import Kit, installed, yaml_of
from hub.testing.leaks import Leaks

_BLOCKED_AFTER = 0.25
"""Seconds that a coroutine may keep the loop."""
_TIME_TO_END = 8.0
"""Seconds that a killed task may take."""


class TaskContract:
    """The tests; a subclass gives ``task`` and the fixture ``fields``, and ``slow_fields`` where it can be slow."""

    task: Any
    """The task: a class, a function made one, or the name of an installed one."""

    @pytest.fixture
    def fields(self) -> Mapping[str, Any]:
        """Fields of a call that succeeds, by their Python or YAML names."""
        raise NotImplementedError("give a fixture `fields` with the fields of a call that succeeds")

    @pytest.fixture
    def slow_fields(self) -> Mapping[str, Any] | None:
        """Fields of a call that goes on for a minute when nobody ends it; None where there is none."""
        return None

    @property
    def component(self) -> type[Task]:
        if isinstance(self.task, str):
            return installed().tasks[self.task]
        found: type[Task] = getattr(self.task, "component", self.task)
        return found

    def test_its_page_has_no_hole(self) -> None:
        check_described(self.component)

    def test_its_examples_can_be_saved(self, hub_kit: Kit) -> None:
        check_examples(self.component, hub_kit.registry(self.component))

    async def test_a_call_succeeds_and_gives_what_it_says(
        self, hub_kit: Kit, fields: Mapping[str, Any]
    ) -> None:
        result = await hub_kit.run_task(self.component, **fields)
        assert result.state == "SUCCESS", result.error
        if self.component.Output is not None:
            check_data(dict(result.outputs), self.component.Output, "what it gives")

    async def test_every_field_takes_an_expression(self, hub_kit: Kit, fields: Mapping[str, Any]) -> None:
        roles = field_roles(self.component)
        document = hub_kit.document(fields)
        rendered = {name: value for name, value in document.items() if name not in roles}
        written = {name: f"{{{{ vars.{name} }}}}" for name in rendered}
        flow = yaml_of(
            {
                "id": "flow",
                "namespace": "test",
                "variables": rendered,
                "tasks": [{"id": "task", "type": self.component.type, **document, **written}],
            }
        )
        result = await hub_kit.run_flow(flow, components=[self.component])
        assert result.state == "SUCCESS", result.error

    async def test_it_does_not_keep_the_hub_from_everything_else(
        self, hub_kit: Kit, fields: Mapping[str, Any]
    ) -> None:
        registry = hub_kit.registry(self.component)
        with LoopWatchdog(registry.owner_of, after=_BLOCKED_AFTER).watching() as watchdog:
            await hub_kit.run_task(self.component, **fields)
        blocks = [block.stack for block in watchdog.blocks if block.component == self.component.type]
        assert not blocks, f"it blocks the loop; await, or make run a plain def:\n{blocks[0]}"

    async def test_it_ends_when_it_is_killed_and_leaves_nothing_behind(
        self, hub_kit: Kit, slow_fields: Mapping[str, Any] | None
    ) -> None:
        if slow_fields is None:
            pytest.skip("no call that takes long: give a fixture `slow_fields` where there is one")
        async with Leaks(), hub_kit.hub(components=[self.component], with_triggers=False) as hub:
            await hub.put(hub_kit.flow_of(self.component, slow_fields))
            with hub.node.services.bus.subscribe("execution", "taskRun") as news:
                started = await hub.start("test/flow")
                async with asyncio.timeout(_TIME_TO_END):
                    while (await news.next()).details.get("state") != "RUNNING":
                        pass
            await asyncio.sleep(0.1)  # let it get into its work; a start is told before
            began = asyncio.get_running_loop().time()
            await hub.node.kill(started.id)
            try:
                async with asyncio.timeout(_TIME_TO_END):
                    ended = await hub.ended(started.id)
            except TimeoutError:
                raise AssertionError(f"killed, it went on for more than {_TIME_TO_END:g} s") from None
            took = asyncio.get_running_loop().time() - began
            assert ended.state.value == "KILLED", f"it ended {ended.state.value} after {took:.1f} s"
            runs = await hub.task_runs(started.id)
            assert runs["task"].state.value == "KILLED", f"its task run ended {runs['task'].state.value}"
