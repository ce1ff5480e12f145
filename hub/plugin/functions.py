"""A task out of one function: its signature and its docstring are the whole description.

::

    @task("acme.greet")
    async def greet(name: str, times: int = 1) -> str:
        \"\"\"Greet somebody.

        Args:
            name: Whom to greet.
            times: How often.

        Returns:
            The greeting.
        \"\"\"
        return " ".join([f"Hello, {name}!"] * times)

The function stays what it is, to be called by tests and by others; ``greet.component`` is the task, and
``register_tasks`` takes the function in its place. A parameter annotated ``TaskContext`` is given the context;
every other one is a field. A plain ``def`` runs in a thread.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, TypeVar, cast, overload

from pydantic import BaseModel, Field, create_model
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from hub.plugin.component import Model, field_roles
from hub.plugin.context import TaskContext
from hub.plugin.task import COMMON, Task

F = TypeVar("F", bound=Callable[..., Any])

_SECTION = re.compile(r"(Args|Arguments|Parameters|Returns|Yields|Raises|Examples?):\s*\Z")
_ITEM = re.compile(r"\*{0,2}(\w+)(?:\s*\([^)]*\))?:\s*(.*)\Z")
_FIELD_LIST = re.compile(r":(param|parameter|arg|returns?|raises)\b([^:]*):\s*(.*)\Z")
_SAMPLES: Mapping[Any, Any] = {str: "text", int: 1, float: 1.5, bool: True, list: [], dict: {}}


@overload
def task(type: F, /) -> F: ...


@overload
def task(type: str | None = None, /, *, examples: Sequence[str] = ()) -> Callable[[F], F]: ...


def task(type: Any = None, /, *, examples: Sequence[str] = ()) -> Any:
    """Make a function a task of this type; in a ``tasks.py``, whose types are ``local.NAME``, it may be left out.

    ``examples`` are YAML texts; without any, one is made of the required fields. Raises ``TypeError`` for a
    function that cannot be one.
    """
    if callable(type):
        return task()(type)

    def make(function: F) -> F:
        name = type or function.__name__
        function.component = component_of(function, name, examples)  # type: ignore[attr-defined]
        return function

    return make


class FunctionTask(Task):
    """The base of tasks that were made of functions."""

    function: ClassVar[Callable[..., Any]]
    arguments: ClassVar[Mapping[str, str]]
    """The function's parameters by the names of the fields."""
    context: ClassVar[str | None]
    """The parameter that is given the context."""
    given_examples: ClassVar[tuple[str, ...]]
    wraps_value: ClassVar[bool]

    def call(self, ctx: TaskContext) -> Any:
        """Call the function with the fields."""
        given = {parameter: getattr(self, field) for field, parameter in self.arguments.items()}
        if self.context is not None:
            given[self.context] = ctx
        return self.function(**given)

    def outputs(self, returned: Any) -> Any:
        """What the function returned, as outputs."""
        if self.wraps_value:
            return {"value": returned}
        if dataclasses.is_dataclass(returned) and not isinstance(returned, type):
            return dataclasses.asdict(returned)
        return returned


class _Awaited(FunctionTask):
    async def run(self, ctx: TaskContext) -> Any:
        return self.outputs(await self.call(ctx))


class _InThread(FunctionTask):
    def run(self, ctx: TaskContext) -> Any:
        return self.outputs(self.call(ctx))


def component_of(function: Callable[..., Any], type_name: str, examples: Sequence[str] = ()) -> type[Task]:
    """The task that a function is. Raises ``TypeError`` naming the function and what is wrong with it."""
    name = getattr(function, "__name__", "the function")
    if not inspect.isroutine(function):
        raise TypeError(f"@task belongs above a function, got {function!r}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{name} yields its values one by one; a task returns them: return a list")
    hints = _hints(function, name)
    doc = _Doc.of(inspect.getdoc(function) or "")
    fields: dict[str, tuple[Any, FieldInfo]] = {}
    arguments: dict[str, str] = {}
    context: str | None = None
    for parameter in inspect.signature(function).parameters.values():
        annotation = _annotation(parameter, hints, name)
        if annotation is TaskContext:
            context = parameter.name
            continue
        field = parameter.name if not hasattr(Task, parameter.name) else f"{parameter.name}_"
        arguments[field] = parameter.name
        fields[field] = (annotation, _field(parameter, annotation, doc))
    output, wraps = _output(hints.get("return"), doc.returned, name)
    is_async = inspect.iscoroutinefunction(inspect.unwrap(function))
    members: Any = {
        "__base__": _Awaited if is_async else _InThread,
        "__module__": function.__module__,
        "__doc__": doc.text or f"{name}.",
        **fields,
    }
    try:
        made: type[FunctionTask] = _make(_class_name(name), **members)
    except TypeError:
        raise
    except Exception as error:
        raise TypeError(f"{name} cannot be a task: {str(error).splitlines()[0]}") from error
    made.type = type_name
    made.function = staticmethod(function)
    made.arguments = arguments
    made.context = context
    made.Output = output
    made.wraps_value = wraps
    made.given_examples = tuple(examples)
    made.examples = made.given_examples or (_example(made),)
    return made


def _make(class_name: str, /, **members: Any) -> type[Any]:
    maker: Any = create_model
    return cast("type[Any]", maker(class_name, **members))


def renamed(component: type[FunctionTask], type_name: str) -> type[Task]:
    """The same task under another type name."""
    return component_of(component.function, type_name, component.given_examples)


# the signature


def _hints(function: Callable[..., Any], name: str) -> Mapping[str, Any]:
    try:
        return typing.get_type_hints(inspect.unwrap(function), include_extras=True)
    except Exception as error:
        raise TypeError(f"the types of {name} cannot be read: {error}") from error


def _annotation(parameter: inspect.Parameter, hints: Mapping[str, Any], name: str) -> Any:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise TypeError(f"{name}: a task has named fields; *{parameter.name} has none")
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise TypeError(f'{name}: "{parameter.name}" cannot be given by name; leave out the "/"')
    if parameter.name not in hints:
        raise TypeError(f'{name}: "{parameter.name}" has no type; write {parameter.name}: str')
    if parameter.name.startswith("_"):
        raise TypeError(f'{name}: a field cannot begin with "_": {parameter.name}')
    if to_camel(parameter.name) in COMMON:
        raise TypeError(
            f'{name}: every task has a property "{to_camel(parameter.name)}" of the hub\'s own; call it otherwise'
        )
    return hints[parameter.name]


def _field(parameter: inspect.Parameter, annotation: Any, doc: _Doc) -> FieldInfo:
    """The field of a parameter; what ``Annotated[…, Field(…)]`` says of it counts most."""
    said = next((one for one in getattr(annotation, "__metadata__", ()) if isinstance(one, FieldInfo)), None)
    described = (said.description if said is not None else None) or doc.parameters.get(parameter.name)
    default: Any = PydanticUndefined if parameter.default is parameter.empty else parameter.default
    # the name is said aloud: a field that had to be called otherwise keeps the one that users write
    found: FieldInfo = Field(
        default,
        alias=to_camel(parameter.name),
        description=described or parameter.name.replace("_", " ").capitalize() + ".",
    )
    return found


def _class_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_")) or "Made"


# the answer


def _output(hint: Any, about: str | None, name: str) -> tuple[type[BaseModel] | None, bool]:
    """The model of the outputs, and whether the answer is one value of them."""
    if hint in (None, type(None), Any, typing.NoReturn):
        return None, False
    bare = hint
    while typing.get_origin(bare) is Annotated:
        bare = typing.get_args(bare)[0]
    kind = typing.get_origin(bare) or bare
    if isinstance(kind, type):
        if issubclass(kind, BaseModel):
            return kind, False
        if typing.is_typeddict(kind):
            return _model(name, kind, getattr(kind, "__required_keys__", frozenset())), False
        if dataclasses.is_dataclass(kind):
            return _model(name, kind, None), False
        if issubclass(kind, Mapping):
            return None, False
    value = Field(..., description=about or "What it gives.")
    made: Any = create_model(f"{_class_name(name)}Output", __base__=Model, value=(hint, value))
    return made, True


def _model(name: str, kind: type[Any], required: frozenset[str] | None) -> type[BaseModel]:
    """A model with the members of a class; all of them are there unless ``required`` says which."""
    hints = typing.get_type_hints(kind, include_extras=True)
    fields: dict[str, Any] = {
        key: (hint, ... if required is None or key in required else None) for key, hint in hints.items()
    }
    made: type[BaseModel] = create_model(f"{_class_name(name)}Output", __base__=Model, **fields)
    return made


# the docstring


@dataclasses.dataclass
class _Doc:
    """A docstring in its parts."""

    text: str = ""
    parameters: dict[str, str] = dataclasses.field(default_factory=dict)
    returned: str | None = None

    @classmethod
    def of(cls, docstring: str) -> _Doc:
        """Reads ``Args:`` and ``Returns:`` sections, and ``:param name:`` and ``:return:`` lists."""
        doc, section, kept = cls(), "", []
        target: list[str] | None = None
        parts: dict[tuple[str, str], list[str]] = {}
        for line in docstring.splitlines():
            found = _SECTION.match(line)
            listed = _FIELD_LIST.match(line)
            if found:
                section, target = found[1], None
            elif listed:
                section = "list"
                words = listed[2].split()
                target = parts.setdefault((listed[1], words[-1] if words else ""), [])
                target.append(listed[3])
            elif line and not line.startswith(" ") and section:
                section, target = "", None  # text goes on after a section
                kept.append(line)
            elif section in ("Args", "Arguments", "Parameters"):
                item = _ITEM.match(line.strip())
                if item and len(line) - len(line.lstrip()) <= 4:
                    target = parts.setdefault(("param", item[1]), [])
                    target.append(item[2])
                elif target is not None:
                    target.append(line.strip())
            elif section in ("Returns", "Yields"):
                parts.setdefault(("return", ""), []).append(line.strip())
            elif section == "list" and target is not None:
                target.append(line.strip())
            elif not section:
                kept.append(line)
        doc.text = re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()
        for (kind, name), lines in parts.items():
            text = " ".join(" ".join(lines).split())
            if kind.startswith("return"):
                doc.returned = text or None
            elif kind != "raises" and text:
                doc.parameters[name] = text
        return doc


def _example(component: type[FunctionTask]) -> str:
    """A call with every required field, for the page and for completion."""
    from hub.model import jsontext

    lines = ["id: step", f"type: {component.type}"]
    roles = field_roles(component)
    for name, field in component.model_fields.items():
        if field.is_required():
            alias = field.alias or name
            lines.append(
                f"{alias}: {jsontext.dumps(_sample(field.annotation) if alias not in roles else '')}"
            )
    return "\n".join(lines)


def _sample(annotation: Any) -> Any:
    """A value that fits, as far as that can be told without asking anybody."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return arguments[0]
    if origin is Annotated:
        return _sample(arguments[0])
    if arguments and origin not in (list, dict, tuple):
        return _sample(arguments[0])
    found = _SAMPLES.get(origin or annotation)
    return "{{ inputs.day }}" if found is None else found
