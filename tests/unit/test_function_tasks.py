"""A task out of one function: what of its signature and docstring becomes what, and what is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

import pytest
from pydantic import BaseModel, Field

from hub.config.flow_tasks import TASK_KEYS
from hub.plugin import Duration, Static, Task, TaskContext, task
from hub.plugin.task import COMMON
from hub.testing import TaskContract
from tests.support.plugins import load, module_of, point


@task("acme.greet")
async def greet(
    name: str,
    times: int = 1,
    *,
    mood: Literal["fine", "grim"] = "fine",
    schema: dict[str, str] | None = None,
    ctx: TaskContext,
) -> str:
    """Greet somebody.

    As often as wanted, and
    over several lines.

    Args:
        name: Whom to greet.
        times (int): How often,
            said over two lines: yes.
        mood: How it sounds.

    Returns:
        The greeting.

    It ends here.
    """
    ctx.logger.info(f"{schema}")
    return " ".join([f"Hello, {name}! I am {mood}."] * times)


class TestGreet(TaskContract):
    task = greet

    @pytest.fixture
    def fields(self) -> dict[str, Any]:
        return {"name": "Ada", "times": 2, "schema": {"a": "b"}}


@task("acme.think")
def think(
    seconds: float, *, about_what: Annotated[str, Field(description="The subject.", min_length=2)]
) -> Any:
    """Think.

    :param float seconds: How long.
    :return: nothing at all
    """
    return {"thread": threading.current_thread() is not threading.main_thread(), "about": about_what}


class TestThink(TaskContract):
    task = think

    @pytest.fixture
    def fields(self) -> dict[str, Any]:
        return {"seconds": 0, "about_what": "life"}


def component(function: Any) -> Any:
    return function.component


def test_the_signature_is_the_description() -> None:
    made = component(greet)
    assert (made.type, made.__name__, made.__module__) == ("acme.greet", "Greet", __name__)
    assert made.__doc__ == "Greet somebody.\n\nAs often as wanted, and\nover several lines.\n\nIt ends here."
    fields = {field.alias: field for field in made.model_fields.values()}
    assert {name: field.description for name, field in fields.items()} == {
        "name": "Whom to greet.",
        "times": "How often, said over two lines: yes.",
        "mood": "How it sounds.",
        "schema": "Schema.",
    }
    assert [name for name, field in fields.items() if field.is_required()] == ["name"]
    assert fields["mood"].default == "fine"
    assert made.Output.model_fields["value"].description == "The greeting."
    assert made.examples == ('id: step\ntype: acme.greet\nname: "text"',)


def test_a_list_of_fields_in_the_docstring_is_read_too() -> None:
    fields = component(think).model_fields
    assert fields["seconds"].description == "How long."
    assert fields["about_what"].description == "The subject."
    assert component(think).__doc__ == "Think."


def test_the_function_stays_a_function() -> None:
    assert think(1, about_what="x")["about"] == "x"


async def test_what_is_given_is_checked_by_its_type(hub_kit: Any) -> None:
    from hub.errors import InvalidFlow

    for fields, message in (
        ({"name": "x", "times": "often"}, "times: expected a whole number"),
        ({"name": "x", "mood": "so-so"}, "mood: expected 'fine' or 'grim'"),
        ({"name": "x", "nmae": "x"}, "unknown property"),
        ({}, '"name" is required'),
    ):
        with pytest.raises(InvalidFlow, match=message):
            await hub_kit.run_task(greet, **fields)
    with pytest.raises(InvalidFlow, match=r"aboutWhat: .* at least 2"):
        await hub_kit.run_task(think, seconds=1, aboutWhat="x")
    result = await hub_kit.run_task(think, seconds="{{ 2 + 1 }}", about_what="{{ flow.id }}")
    assert result.outputs == {"thread": True, "about": "flow"}


class Found(BaseModel):
    is_there: bool


@dataclass
class Point:
    x: int
    how_far: float


class Reading(TypedDict):
    celsius: float


class Anyhow(TypedDict, total=False):
    note: str


async def model() -> Found:
    """Give a model."""
    return Found(is_there=True)


async def point_() -> Point:
    """Give a dataclass."""
    return Point(1, 2.5)


async def typed() -> Reading:
    """Give a typed mapping."""
    return {"celsius": 1.5}


async def partial_() -> Anyhow:
    """Give a part of one."""
    return {}


async def maybe() -> str | None:
    """Give nothing, perhaps."""
    return None


async def numbers() -> list[int]:
    """Give a list."""
    return [1, 2]


async def nothing() -> None:
    """Give nothing."""


async def anything() -> dict[str, Any]:
    """Give anything."""
    return {"a_b": 1}


@pytest.mark.parametrize(
    ("function", "outputs", "named"),
    [
        (model, {"isThere": True}, ["isThere"]),
        (point_, {"x": 1, "howFar": 2.5}, ["x", "howFar"]),
        (typed, {"celsius": 1.5}, ["celsius"]),
        (partial_, {}, ["note"]),
        (maybe, {"value": None}, ["value"]),
        (numbers, {"value": [1, 2]}, ["value"]),
        (nothing, {}, None),
        (anything, {"a_b": 1}, None),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
async def test_whatever_it_returns_are_outputs(
    hub_kit: Any, function: Callable[..., Any], outputs: Any, named: list[str] | None
) -> None:
    from hub.model.naming import PublicJsonSchema

    made = component(task("acme.give")(function))
    assert (await hub_kit.run_task(made)).outputs == outputs
    if named is None:
        assert made.Output is None
    else:
        schema = made.Output.model_json_schema(mode="validation", schema_generator=PublicJsonSchema)
        assert list(schema["properties"]) == named


async def test_names_that_a_component_has_itself_are_fields_all_the_same(hub_kit: Any) -> None:
    @task("acme.odd")
    def odd(run: str, json: int, copy: bool = True, from_: str = "x", examples: str = "") -> list[Any]:
        """Take odd names."""
        return [run, json, copy, from_, examples]

    result = await hub_kit.run_task(odd, run="r", json=1, copy=False, examples="e")
    assert result.outputs == {"value": ["r", 1, False, "x", "e"]}


async def test_markers_of_fields_hold_for_parameters(hub_kit: Any) -> None:
    @task("acme.kept")
    def kept(text: Static[str], wait: Duration) -> list[str]:
        """Keep it."""
        return [text, str(wait)]

    result = await hub_kit.run_task(kept, text="{{ as it is }}", wait="PT90S")
    assert result.outputs == {"value": ["{{ as it is }}", "0:01:30"]}


def untyped(name):  # type: ignore[no-untyped-def]
    """Take anything."""


def several(*names: str) -> None:
    """Take several."""


def by_place(name: str, /) -> None:
    """Take one by its place."""


def reserved(timeout: int) -> None:
    """Take a reserved name."""


def generated() -> Any:
    """Yield."""
    yield 1


def unreadable(name: Nowhere) -> None:  # type: ignore[name-defined] # noqa: F821
    """Take what nobody knows."""


def private(_name: str) -> None:
    """Take a private one."""


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (untyped, r'untyped: "name" has no type; write name: str'),
        (several, r"several: a task has named fields; \*names has none"),
        (by_place, r'by_place: "name" cannot be given by name; leave out the "/"'),
        (reserved, r'reserved: every task has a property "timeout"'),
        (generated, r"generated yields its values one by one; .* return a list"),
        (unreadable, r"the types of unreadable cannot be read: name 'Nowhere' is not defined"),
        (private, r'private: a field cannot begin with "_"'),
        (Found, r"@task belongs above a function, got"),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_a_function_that_cannot_be_one_is_refused_by_name(function: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        task("acme.x")(function)


def test_a_plugin_registers_functions_and_classes_alike() -> None:
    class Other(Task):
        """Another."""

        type = "acme.other"

        async def run(self, ctx: TaskContext) -> None: ...

    registry, reports = load(point("acme", "asynchub-acme", {"register_tasks": [greet, think, Other]}))
    assert reports["acme/asynchub-acme"].types == ("acme.greet", "acme.other", "acme.think")
    assert registry.owner_of(registry.tasks["acme.greet"]) == "acme"


def test_a_function_that_nobody_made_a_task_is_named_with_what_to_do() -> None:
    module = module_of("bare", register_tasks=lambda: [untyped])
    _, reports = load(point("bare", "asynchub-bare", module=module))
    assert "write @task above the function" in str(reports["bare/asynchub-bare"].error)


def test_reserved_names_are_those_of_flows() -> None:
    assert COMMON == TASK_KEYS
