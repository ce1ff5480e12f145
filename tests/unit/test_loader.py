"""Plugins: one that is broken is named, and the rest loads."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar

import pytest

from hub.plugin import (
    EventTrigger,
    FileStore,
    HttpTrigger,
    Listener,
    ListenerContext,
    NewsStream,
    Notification,
    Notifier,
    NotifierContext,
    SecretSource,
    Storage,
    Task,
    TaskContext,
    Trigger,
    TriggerContext,
)
from hub.plugin.hookspecs import GROUP
from hub.registry import load_plugins
from tests.support.plugins import giving, load, module_of, point


def a_task(name: str) -> type[Task]:
    class Made(Task):
        """A task."""

        type: ClassVar[str] = name

        async def run(self, ctx: TaskContext) -> None: ...

    return Made


def error_of(**members: Any) -> str:
    """What is said about a plugin ``acme`` whose module has these members."""
    registry, reports = load(point("acme", "asynchub-acme", module=module_of("acme", **members)))
    assert "log" in registry.tasks
    return reports["acme/asynchub-acme"].error or ""


def test_a_plugin_brings_its_types() -> None:
    registry, reports = load(point("acme", "asynchub-acme", {"register_tasks": [a_task("acme.do")]}))
    assert "acme.do" in registry.tasks
    assert reports["acme/asynchub-acme"].state == "loaded"
    assert "log" in registry.tasks


def test_hook_register_notifiers() -> None:
    class Tell(Notifier):
        """Tells."""

        type: ClassVar[str] = "acme.tell"

        async def send(self, notification: Notification, ctx: NotifierContext) -> None: ...

    registry, reports = load(point("acme", "asynchub-acme", {"register_notifiers": [Tell]}))
    assert registry.notifiers["acme.tell"] is Tell
    assert registry.owner_of(Tell) == "acme"
    assert reports["acme/asynchub-acme"].types == ("acme.tell",)


def test_a_broken_plugin_is_named_and_the_rest_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made_broken.py").write_text("raise RuntimeError('no good')")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry, reports = load(point("bad", "asynchub-bad", module="made_broken"))
    report = reports["bad/asynchub-bad"]
    assert (report.state, report.error) == (
        "failed",
        'plugin "bad" cannot be loaded: RuntimeError: no good.'
        " Update it, or leave it out with plugins: {bad: {enabled: false}}",
    )
    assert "log" in registry.tasks


def test_a_missing_extra_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made_thing.py").write_text("import aiothing")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry, reports = load(point("thing", "asynchub-thing", module="made_thing"))
    error = reports["thing/asynchub-thing"].error
    assert error == (
        'plugin "thing" is not available: aiothing is not installed.'
        " Install it with: pip install 'asynchub-thing[thing]'"
    )
    assert registry.explain("task", "thing.publish") == error


def test_of_two_claims_to_a_type_the_built_in_wins() -> None:
    registry, reports = load(point("log", "asynchub-log", {"register_tasks": [a_task("log")]}))
    assert registry.tasks["log"].__module__ == "plugins_core.core.tasks"
    report = reports["log/asynchub-log"]
    assert "the built-in" in (report.error or "")
    assert report.types == ()


def test_of_two_strangers_with_one_name_neither_loads() -> None:
    registry, reports = load(
        point("acme", "asynchub-one", {"register_tasks": [a_task("acme.do")]}),
        point("acme", "asynchub-two", {"register_tasks": [a_task("acme.do")]}),
    )
    assert "acme.do" not in registry.tasks
    for name in ("acme/asynchub-one", "acme/asynchub-two"):
        assert "asynchub-one" in (reports[name].error or "")
        assert "asynchub-two" in (reports[name].error or "")


def test_a_misspelled_hook_is_found() -> None:
    _, reports = load(point("acme", "asynchub-acme", {"register_task": []}))
    assert 'unknown hook "register_task" (did you mean "register_tasks"?)' in (
        reports["acme/asynchub-acme"].error or ""
    )


def test_a_type_must_begin_with_its_plugins_name() -> None:
    _, reports = load(point("acme", "asynchub-acme", {"register_tasks": [a_task("other.do")]}))
    assert "must begin with the plugin's name: \"acme" in (reports["acme/asynchub-acme"].error or "")


@pytest.mark.parametrize("end", ["sys.exit(3)", "raise SystemExit", "raise GeneratorExit"])
def test_a_plugin_that_ends_the_process_at_import_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    (tmp_path / "made_ending.py").write_text(f"import sys\n{end}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "made_ending", raising=False)
    registry, reports = load(point("bad", "asynchub-bad", module="made_ending"))
    assert reports["bad/asynchub-bad"].state == "failed"
    assert 'plugin "bad" cannot be loaded: ' in (reports["bad/asynchub-bad"].error or "")
    assert "log" in registry.tasks


def test_what_a_plugin_prints_while_it_loads_is_no_data(capsys: pytest.CaptureFixture[str]) -> None:
    def register_tasks() -> list[type[Task]]:
        print("hello")
        return []

    assert error_of(register_tasks=register_tasks) == ""
    assert capsys.readouterr() == ("", 'plugin "acme" says: hello\n')


# -- hooks that cannot be used


async def an_async_hook() -> list[type[Task]]:
    return []


def a_hook_with_arguments(hub: object, more: object, fine: int = 1) -> list[type[Task]]:
    return []


def a_hook_that_raises() -> list[type[Task]]:
    raise RuntimeError("boom")


def a_generator_that_raises() -> Any:
    yield a_task("acme.do")
    raise RuntimeError("boom")


@pytest.mark.parametrize(
    ("hook", "function", "message"),
    [
        ("register_tasks", giving(None), "register_tasks gives a list, got nothing"),
        ("register_tasks", giving(5), "register_tasks gives a list, got 5"),
        ("register_tasks", giving("acme.do"), "register_tasks gives a list, got 'acme.do'"),
        ("register_tasks", giving([5]), "register_tasks gives subclasses of Task, got 5"),
        ("register_tasks", an_async_hook, "register_tasks is async; a hook is a plain function"),
        ("register_tasks", lambda: an_async_hook(), "register_tasks gives a coroutine"),
        (
            "register_tasks",
            a_hook_with_arguments,
            "register_tasks takes no arguments, this one wants hub, more",
        ),
        ("register_tasks", a_hook_that_raises, "register_tasks: RuntimeError: boom"),
        ("register_tasks", a_generator_that_raises, "register_tasks: RuntimeError: boom"),
        ("register_cleaners", giving([5]), "register_cleaners gives async functions, got 5"),
        ("register_checks", giving([5]), "register_checks gives async generators, got 5"),
        ("settings_model", giving(5), "settings_model gives a pydantic model, got 5"),
        ("register_expression_functions", giving(None), "gives a mapping of functions by name, got nothing"),
        ("register_expression_functions", giving({"half": 5}), '"half" is no function, got 5'),
        ("register_expression_functions", giving({"a b": len}), "an expression cannot call 'a b'"),
        ("register_expression_functions", giving({"not": len}), "an expression cannot call 'not'"),
        ("register_expression_functions", giving({"contains": len}), "an expression cannot call 'contains'"),
        ("register_expression_functions", giving({"true": len}), "an expression cannot call 'true'"),
        ("register_expression_functions", giving({5: len}), "an expression cannot call 5"),
        ("register_expression_functions", giving({"f": an_async_hook}), '"f" is async'),
    ],
)
def test_a_hook_that_cannot_be_used_is_named(hook: str, function: Any, message: str) -> None:
    assert message in error_of(**{hook: function})


def test_a_hook_without_its_mark_is_named() -> None:
    name = module_of("acme")
    vars(sys.modules[name])["register_tasks"] = giving([])
    _, reports = load(point("acme", "asynchub-acme", module=name))
    assert "register_tasks is not marked as a hook: write @hookimpl above it" in (
        reports["acme/asynchub-acme"].error or ""
    )


# -- components that cannot be used


class _Of(Task):
    """Does something."""

    type: ClassVar[str] = "acme.do"

    async def run(self, ctx: TaskContext) -> None: ...


class NoRun(Task):
    type: ClassVar[str] = "acme.do"


class NoContext(Task):
    type: ClassVar[str] = "acme.do"

    def run(self) -> None: ...  # type: ignore[override]


class NoSchema(_Of):
    call: Callable[[], None] = print


class OddOutput(_Of):
    Output = dict  # type: ignore[assignment]


class Silent(Trigger):
    type: ClassVar[str] = "acme.tick"


class Plain(Trigger):
    type: ClassVar[str] = "acme.tick"

    def run(self, ctx: TriggerContext) -> None: ...  # type: ignore[override]


class Deaf(HttpTrigger):
    type: ClassVar[str] = "acme.tick"


class Blind(EventTrigger):
    type: ClassVar[str] = "acme.tick"


class Mute(Listener):
    type: ClassVar[str] = "acme.ear"


class Ear(Listener):
    type: ClassVar[str] = "acme.ear"

    async def run(self, ctx: ListenerContext, news: NewsStream) -> None: ...


class PlainEar(Ear):
    def run(self, ctx: ListenerContext, news: NewsStream) -> None: ...  # type: ignore[override]


class Endless(Ear):
    queue_size: ClassVar[int] = 10**9


class Choosy(Ear):
    wants: ClassVar[Any] = (str,)


class Dumb(Notifier):
    type: ClassVar[str] = "acme.tell"


class Waiting(Notifier):
    type: ClassVar[str] = "acme.tell"

    def send(self, notification: Notification, ctx: NotifierContext) -> None: ...  # type: ignore[override]


class NoStore(FileStore):
    type = "acme"


class NamelessSource(SecretSource):
    async def get(self, name: str) -> str | None:
        return None


class HalfStorage(Storage):
    type: ClassVar[str] = "acme"


@pytest.mark.parametrize(
    ("hook", "component", "message"),
    [
        ("register_tasks", NoRun, "NoRun does not define run"),
        ("register_tasks", NoContext, "NoContext.run is called with (self, ctx), this one takes (self)"),
        ("register_tasks", NoSchema, "NoSchema has no JSON Schema"),
        ("register_tasks", OddOutput, "OddOutput.Output is a pydantic model, got"),
        ("register_triggers", Silent, "Silent does not define run"),
        ("register_triggers", Plain, "Plain.run must be async def"),
        ("register_triggers", Deaf, "Deaf does not define receive"),
        ("register_triggers", Blind, "Blind does not define event_types"),
        ("register_listeners", Mute, "Mute does not define run"),
        ("register_listeners", PlainEar, "PlainEar.run must be async def"),
        (
            "register_listeners",
            Endless,
            "Endless.queue_size is a whole number from 1 to 100,000, got 1000000000",
        ),
        (
            "register_listeners",
            Choosy,
            "Choosy.wants is a tuple of EventAccepted, ExecutionChanged, TaskRunEnded, got (<class 'str'>,)",
        ),
        ("register_notifiers", Dumb, "Dumb does not define send"),
        ("register_notifiers", Waiting, "Waiting.send must be async def"),
        ("register_file_stores", NoStore, "NoStore does not define delete, get"),
        ("register_secret_sources", NamelessSource, "NamelessSource.type is not a type name: nothing"),
        ("register_storages", HalfStorage, "HalfStorage does not define accept"),
    ],
)
def test_a_component_that_could_never_work_is_named(hook: str, component: Any, message: str) -> None:
    assert message in error_of(**{hook: giving([component])})


def a_storage(**members: Any) -> type[Storage]:
    """A storage that has every method the contract names, and these members."""
    methods = dict.fromkeys(Storage.__abstractmethods__, lambda self: None)
    return type("AStorage", (Storage,), {"type": "acme", **methods, **members})


@pytest.mark.parametrize("schemes", [None, "acme", (), ("Not One",), (5,)])
def test_a_storage_without_schemes_is_named(schemes: Any) -> None:
    members = {} if schemes is None else {"schemes": schemes}
    assert "AStorage.schemes is a tuple of URL schemes" in error_of(
        register_storages=giving([a_storage(**members)])
    )


def test_a_type_that_is_brought_twice_is_named() -> None:
    tasks = [a_task("acme.do"), a_task("acme.do")]
    assert '"acme.do" is brought twice, by Made and by Made' in error_of(register_tasks=giving(tasks))


def test_a_trigger_that_says_no_event_type_has_one_from_its_type() -> None:
    class Tick(Trigger):
        """Ticks."""

        type: ClassVar[str] = "acme.tick"

        async def run(self, ctx: TriggerContext, emit: Any) -> None: ...

    assert error_of(register_triggers=giving([Tick])) == ""


# -- names that two claim


def one() -> int:
    return 1


@pytest.mark.parametrize(
    ("hook", "answers", "what"),
    [
        (
            "register_storages",
            [a_storage(schemes=("same",)), a_storage(schemes=("same",), type="other")],
            'the storage scheme "same:"',
        ),
        ("register_expression_functions", [{"same": one}, {"same": one}], 'the expression function "same"'),
    ],
)
def test_of_two_strangers_claims_to_a_name_neither_holds(hook: str, answers: list[Any], what: str) -> None:
    first, second = ([one] if hook == "register_storages" else one for one in answers)
    registry, reports = load(
        point("acme", "asynchub-one", {hook: first, "register_tasks": [a_task("acme.do")]}),
        point("other", "asynchub-two", {hook: second}),
    )
    assert "same" not in registry.storages
    assert "same" not in registry.functions
    for name in ("acme/asynchub-one", "other/asynchub-two"):
        assert f"{what} is claimed by" in (reports[name].error or "")
        assert reports[name].state == "partly"
    assert "acme.do" in registry.tasks


def test_a_scheme_of_a_built_in_storage_stays_its_own() -> None:
    registry, reports = load(
        point("acme", "asynchub-acme", {"register_storages": [a_storage(schemes=("sqlite", "acme"))]})
    )
    assert registry.storages["sqlite"].__module__ == "plugins_core.sqlite.storage"
    assert "acme" in registry.storages
    assert 'the storage scheme "sqlite:" is claimed by' in (reports["acme/asynchub-acme"].error or "")


@pytest.mark.parametrize("name", ["now", "secret", "fromJson"])
def test_a_built_in_function_cannot_be_replaced(name: str) -> None:
    registry, reports = load(
        point("acme", "asynchub-acme", {"register_expression_functions": {name: one, "two": one}})
    )
    assert set(registry.functions) == {"two"}
    assert f'the expression function "{name}" is a built-in one' in (
        reports["acme/asynchub-acme"].error or ""
    )


# -- plugins that are left out


def test_a_plugin_that_is_switched_off_is_listed_and_explained() -> None:
    built_in = [one for one in entry_points(group=GROUP) if one.name == "http"]
    registry = load_plugins({"http": {"enabled": False}}, built_in)
    [report] = registry.plugins
    assert (report.state, registry.tasks) == ("off", {})
    assert "switched off" in (registry.explain("task", "http.request") or "")


def test_the_plugin_of_the_how_to_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "plugins.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.S)
    (tmp_path / "asynchub_weather.py").write_text("\n".join(blocks))
    monkeypatch.syspath_prepend(str(tmp_path))
    registry, reports = load(point("weather", "asynchub-weather", module="asynchub_weather"))
    assert reports["weather/asynchub-weather"].error is None
    assert "weather.report" in registry.tasks
    assert [one.type for one in registry.listeners] == ["weather.alarm"]
    assert "weather.room" in registry.notifiers
    assert "apiUrl" in registry.settings["weather"].model_json_schema()["properties"]
