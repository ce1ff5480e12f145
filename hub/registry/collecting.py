"""Ask one plugin's module for what it brings, and refuse by name what could never be used.

Called by the loader inside its ``try``, once for each plugin. Every refusal is a ``PluginError`` that names the
hook or the class and says what was expected: what is let in here is relied on everywhere else.
"""

from __future__ import annotations

import inspect
import keyword
import re
import typing
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pluggy
from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from hub.errors import ExpressionError, PluginError, did_you_mean
from hub.expressions import parse_template
from hub.model.naming import PublicJsonSchema, unreadable_names
from hub.plugin import API_VERSION, OLDEST_API, hookspecs
from hub.plugin.checks import Check
from hub.plugin.component import Component
from hub.plugin.file_store import FileStore
from hub.plugin.listener import Listener, News
from hub.plugin.notifier import Notifier
from hub.plugin.secrets import SecretSource
from hub.plugin.storage import Storage
from hub.plugin.task import Task
from hub.plugin.trigger import EventTrigger, HttpTrigger, Trigger

_TYPE_NAME = re.compile(r"[a-z][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*\Z")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*\Z")
_LONGEST_QUEUE = 100_000
API_NAME = "HUB_API"
"""The number in a plugin's module that says which plugin API it was written for."""
_MARK = "hub_impl"
"""What ``@hookimpl`` leaves on a function."""

Cleaner = Callable[[str], Awaitable[int]]


@dataclass
class Brought:
    """What one plugin brings, each by the name that users write."""

    tasks: dict[str, type[Task]] = field(default_factory=dict)
    triggers: dict[str, type[Trigger]] = field(default_factory=dict)
    storages: dict[str, type[Storage]] = field(default_factory=dict)
    """By scheme; one storage may answer to several."""
    file_stores: dict[str, type[FileStore]] = field(default_factory=dict)
    notifiers: dict[str, type[Notifier]] = field(default_factory=dict)
    secret_sources: dict[str, type[SecretSource]] = field(default_factory=dict)
    listeners: dict[str, type[Listener]] = field(default_factory=dict)
    functions: dict[str, Callable[..., object]] = field(default_factory=dict)
    cleaners: list[Cleaner] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    settings: type[BaseModel] | None = None

    def types(self) -> tuple[str, ...]:
        """The names that a list of plugins shows."""
        named = [
            *self.tasks,
            *self.triggers,
            *self.file_stores,
            *self.notifiers,
            *self.secret_sources,
            *self.listeners,
        ]
        return tuple(sorted({*named, *(f"{scheme}:" for scheme in self.storages)}))

    def classes(self) -> Iterable[type[Any]]:
        """Every class among them."""
        for kind in (
            self.tasks,
            self.triggers,
            self.storages,
            self.file_stores,
            self.notifiers,
            self.secret_sources,
            self.listeners,
        ):
            yield from kind.values()


def collect(module: ModuleType, plugin: str, *, is_built_in: bool) -> Brought:
    """What a plugin's module brings. Raises ``PluginError``, and what the module's own code raises."""
    _check_api(module)
    return _Collector(plugin, _hooks(module, plugin), is_built_in).collect()


def _check_api(module: ModuleType) -> None:
    """Refuse a plugin that says it was written for another plugin API than this hub has."""
    wanted = getattr(module, API_NAME, None)
    if wanted is None:
        return
    if not isinstance(wanted, int) or isinstance(wanted, bool):
        raise PluginError(f"{API_NAME} is a whole number, got {_shown(wanted)}", hint=f"write {API_NAME} = 1")
    if wanted > API_VERSION:
        raise PluginError(
            f"it is written for plugin API {wanted}, this hub has {API_VERSION}", hint="update asynchub"
        )
    if wanted < OLDEST_API:
        raise PluginError(
            f"it is written for plugin API {wanted}, this hub understands {OLDEST_API} to {API_VERSION}"
        )


# -- hooks


def _hooks(module: ModuleType, plugin: str) -> Mapping[str, Callable[[], Any]]:
    """The hooks a module implements, checked against their specifications."""
    known = [name for name in dir(hookspecs) if hasattr(getattr(hookspecs, name), "hub_spec")]
    for name, value in list(vars(module).items()):
        if name in known and inspect.isfunction(value) and not hasattr(value, _MARK):
            raise PluginError(f"{name} is not marked as a hook: write @hookimpl above it")
        if inspect.isfunction(value) and hasattr(value, _MARK):
            _check_hook(name, value)
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(module, plugin)
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        wrong = re.search(r"unknown hook '(\w+)'", str(error))
        name = wrong.group(1) if wrong else "?"
        raise PluginError(f'unknown hook "{name}"', hint=did_you_mean(name, known)) from None
    callers = manager.get_hookcallers(module) or []
    return {caller.name: caller.get_hookimpls()[0].function for caller in callers}


def _check_hook(name: str, function: Callable[..., Any]) -> None:
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise PluginError(f"{name} is async; a hook is a plain function, called once at the start")
    wanted = [one.name for one in inspect.signature(function).parameters.values() if one.default is one.empty]
    if wanted:
        raise PluginError(f"{name} takes no arguments, this one wants {', '.join(wanted)}")


class _Collector:
    """Calls the hooks of one plugin."""

    def __init__(self, plugin: str, hooks: Mapping[str, Callable[[], Any]], is_built_in: bool) -> None:
        self._plugin = plugin
        self._hooks = hooks
        self._is_built_in = is_built_in

    def collect(self) -> Brought:
        brought = Brought()
        for task in self._classes("register_tasks", Task):
            # those of built-in ones are described: their tests say so, and a start need not wait for it
            check_task(task, is_described=self._is_built_in)
            _put(brought.tasks, self._type_of(task), task)
        for trigger in self._classes("register_triggers", Trigger):
            if not self._is_built_in:
                check_component(trigger)
            _check_trigger(trigger)
            _put(brought.triggers, self._type_of(trigger), trigger)
        for storage in self._classes("register_storages", Storage):
            self._type_of(storage)
            for scheme in _schemes_of(storage):
                _put(brought.storages, scheme, storage)
        for store in self._classes("register_file_stores", FileStore):
            _put(brought.file_stores, self._type_of(store), store)
        for notifier in self._classes("register_notifiers", Notifier):
            if not self._is_built_in:
                check_component(notifier)
            _check_notifier(notifier)
            _put(brought.notifiers, self._type_of(notifier), notifier)
        for source in self._classes("register_secret_sources", SecretSource):
            _put(brought.secret_sources, self._type_of(source), source)
        for listener in self._classes("register_listeners", Listener):
            check_listener(listener)
            _put(brought.listeners, self._type_of(listener), listener)
        for cleaner in self._list("register_cleaners"):
            if not callable(cleaner):
                raise PluginError(f"register_cleaners gives async functions, got {_shown(cleaner)}")
            brought.cleaners.append(cleaner)
        for check in self._list("register_checks"):
            if not inspect.isasyncgenfunction(check):
                raise PluginError(f"register_checks gives async generators, got {_shown(check)}")
            brought.checks.append(check)
        brought.functions = self._functions()
        brought.settings = self._settings()
        return brought

    def _answer(self, hook: str) -> Any:
        """What a hook gives. Raises ``PluginError`` naming it."""
        try:
            answer = self._hooks[hook]()
        except (ImportError, PluginError):
            raise
        except Exception as error:
            raise PluginError(f"{hook}: {type(error).__name__}: {error}") from error
        if inspect.iscoroutine(answer):
            answer.close()
            raise PluginError(f"{hook} gives a coroutine; a hook is a plain function")
        return answer

    def _list(self, hook: str) -> list[Any]:
        if hook not in self._hooks:
            return []
        answer = self._answer(hook)
        if not isinstance(answer, Iterable) or isinstance(answer, str | bytes | Mapping):
            raise PluginError(f"{hook} gives a list, got {_shown(answer)}")
        try:
            return list(answer)
        except (ImportError, PluginError):
            raise
        except Exception as error:  # a generator runs only now
            raise PluginError(f"{hook}: {type(error).__name__}: {error}") from error

    def _classes(self, hook: str, kind: type[Any]) -> list[Any]:
        # a function that was made a task stands for it
        found = [getattr(one, "component", one) for one in self._list(hook)]
        for one in found:
            if not (isinstance(one, type) and issubclass(one, kind)):
                hint = "write @task above the function" if inspect.isfunction(one) and kind is Task else None
                raise PluginError(f"{hook} gives subclasses of {kind.__name__}, got {_shown(one)}", hint=hint)
            missing = sorted(getattr(one, "__abstractmethods__", ()))
            if missing:
                raise PluginError(f"{one.__name__} does not define {', '.join(missing)}")
        return found

    def _type_of(self, one: type[Any]) -> str:
        """A class's type name, which fits its plugin's."""
        name = getattr(one, "type", None)
        if not isinstance(name, str) or not _TYPE_NAME.match(name):
            raise PluginError(
                f"{one.__name__}.type is not a type name: {_shown(name)}",
                hint=f'write type: ClassVar[str] = "{self._plugin}.name"',
            )
        if not self._is_built_in and name.split(".", 1)[0] != self._plugin:
            raise PluginError(f'the type "{name}" must begin with the plugin\'s name: "{self._plugin}.…"')
        return name

    def _functions(self) -> dict[str, Callable[..., object]]:
        hook = "register_expression_functions"
        if hook not in self._hooks:
            return {}
        answer = self._answer(hook)
        if not isinstance(answer, Mapping):
            raise PluginError(f"{hook} gives a mapping of functions by name, got {_shown(answer)}")
        for name, call in answer.items():
            if not _can_be_called(name):
                raise PluginError(f"{hook}: an expression cannot call {_shown(name)}; expected a plain name")
            if not callable(call):
                raise PluginError(f'{hook}: "{name}" is no function, got {_shown(call)}')
            if inspect.iscoroutinefunction(call):
                raise PluginError(f'{hook}: "{name}" is async; expressions call plain, quick functions')
        return dict(answer)

    def _settings(self) -> type[BaseModel] | None:
        if "settings_model" not in self._hooks:
            return None
        model = self._answer("settings_model")
        if model is None:
            return None
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise PluginError(f"settings_model gives a pydantic model, got {_shown(model)}")
        _check_schema(model, "validation", "settings_model")
        _check_names(model, "settings_model")
        if "enabled" in model.model_fields:
            raise PluginError('settings_model: "enabled" is the hub\'s own setting of every plugin')
        return _as_users_write(model)


# -- what they bring


def _put(known: dict[str, Any], name: str, one: Any) -> None:
    if name in known:
        raise PluginError(f'"{name}" is brought twice, by {known[name].__name__} and by {one.__name__}')
    known[name] = one


def check_component(one: type[Component]) -> None:
    """Refuse a component that has no description. Raises ``PluginError``."""
    _check_schema(one, "validation", one.__name__)
    _check_names(one, one.__name__)
    for name in ("Output", "Data"):
        model = getattr(one, name, None)
        if model is None:
            continue
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise PluginError(f"{one.__name__}.{name} is a pydantic model, got {_shown(model)}")
        _check_schema(model, "serialization", f"{one.__name__}.{name}")


def check_task(task: type[Task], *, is_described: bool = False) -> None:
    """Refuse a task that could never be used. Raises ``PluginError``."""
    if not is_described:
        check_component(task)
    if task.run is Task.run:
        raise PluginError(f"{task.__name__} does not define run")
    _check_arguments(task, task.run, "ctx")


def _check_trigger(trigger: type[Trigger]) -> None:
    if not isinstance(trigger.event_type, str):
        raise PluginError(f"{trigger.__name__}.event_type is text, got {_shown(trigger.event_type)}")
    if issubclass(trigger, EventTrigger):
        if trigger.event_types is EventTrigger.event_types:
            raise PluginError(f"{trigger.__name__} does not define event_types")
        return
    if issubclass(trigger, HttpTrigger):
        if trigger.receive is HttpTrigger.receive:
            raise PluginError(f"{trigger.__name__} does not define receive")
        _check_async(trigger, trigger.receive)
        _check_arguments(trigger, trigger.receive, "request", "ctx", "emit")
        return
    if trigger.run is Trigger.run:
        raise PluginError(f"{trigger.__name__} does not define run")
    _check_async(trigger, trigger.run)
    _check_arguments(trigger, trigger.run, "ctx", "emit")


def check_listener(listener: type[Listener]) -> None:
    """Refuse a listener that could never be run. Raises ``PluginError``."""
    _check_async(listener, listener.run)
    _check_arguments(listener, listener.run, "ctx", "news")
    size = listener.queue_size
    if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= _LONGEST_QUEUE:
        wanted = f"a whole number from 1 to {_LONGEST_QUEUE:,}"
        raise PluginError(f"{listener.__name__}.queue_size is {wanted}, got {_shown(size)}")
    kinds = typing.get_args(News)
    if not isinstance(listener.wants, tuple) or not listener.wants or set(listener.wants) - set(kinds):
        known = ", ".join(kind.__name__ for kind in kinds)
        raise PluginError(f"{listener.__name__}.wants is a tuple of {known}, got {_shown(listener.wants)}")


def _check_notifier(notifier: type[Notifier]) -> None:
    if notifier.send is Notifier.send:
        raise PluginError(f"{notifier.__name__} does not define send")
    _check_async(notifier, notifier.send)
    _check_arguments(notifier, notifier.send, "notification", "ctx")


def _check_async(owner: type[Any], method: Callable[..., Any]) -> None:
    if not (inspect.iscoroutinefunction(method) or inspect.iscoroutinefunction(inspect.unwrap(method))):
        raise PluginError(f"{owner.__name__}.{method.__name__} must be async def")


def _check_arguments(owner: type[Any], method: Callable[..., Any], *wanted: str) -> None:
    signature = inspect.signature(method)
    try:
        signature.bind(None, *wanted)
    except TypeError:
        raise PluginError(
            f"{owner.__name__}.{method.__name__} is called with ({', '.join(('self', *wanted))}),"
            f" this one takes {signature}"
        ) from None


def _check_schema(model: type[BaseModel], mode: Any, name: str) -> None:
    """A model without a JSON Schema has no form, no docs and no completion, and takes those of all others along."""
    try:
        model.model_json_schema(mode=mode, schema_generator=PublicJsonSchema)
    except Exception as error:
        raise PluginError(f"{name} has no JSON Schema: {error}".split("\n")[0]) from error


def _check_names(model: type[BaseModel], owner: str) -> None:
    for inner, name in unreadable_names(model):
        raise PluginError(
            f'{owner}: the model {inner.__name__} reads "{name}", users write "{to_camel(name)}"',
            hint=f"derive {inner.__name__} from hub.plugin.Model",
        )


def _as_users_write(model: type[BaseModel]) -> type[BaseModel]:
    """A settings model that takes camelCase names and no others, where it does not say otherwise itself."""
    missing = {"alias_generator": to_camel, "extra": "forbid"}
    config = {name: value for name, value in missing.items() if name not in model.model_config}
    if not config:
        return model
    members = {"model_config": config, "__module__": model.__module__, "__doc__": model.__doc__}
    return type(model.__name__, (model,), members)


def _schemes_of(storage: type[Storage]) -> tuple[str, ...]:
    schemes = getattr(storage, "schemes", None)
    wanted = f"{storage.__name__}.schemes is a tuple of URL schemes"
    if not isinstance(schemes, tuple | list) or not schemes:
        raise PluginError(f"{wanted}, got {_shown(schemes)}", hint='write schemes = ("name",)')
    for scheme in schemes:
        if not isinstance(scheme, str) or not _SCHEME.match(scheme):
            raise PluginError(f"{wanted}, got {_shown(scheme)} in it")
    return tuple(schemes)


def _can_be_called(name: Any) -> bool:
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
        return False
    try:
        parse_template(f"{{{{ {name}() }}}}")
    except ExpressionError:
        return False
    return True


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"
