"""Check data against a JSON Schema: what is wrong, and where.

Run in the hub where that is quick for certain, else as a program of its own, which is ended when it takes too
long: a schema's patterns and references can keep a validator busy for ever. As a program it gets only a schema
and data on stdin and has only this file and the library.

jsonschema is used because it keeps to the specification (drafts 4 to 2020-12, their own test suite), is kept
by the specification's people, and makes no code out of schemas. It would fetch references from the network:
the registry given here has none.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

MOST_ERRORS = 100
_LONGEST_MESSAGE = 300
_QUICK = 10_000
"""Places of the schema times places of the data: so many are looked at in some 30 ms."""
_SLOW = frozenset({"$ref", "$dynamicRef", "$recursiveRef", "pattern", "patternProperties"})
_CPU_SECONDS = 60
_MEMORY = 2 * 1024**3
_RECURSION = 20_000


class BadSchema(ValueError):
    """A schema that is none, or names what it does not hold."""


def is_quick(schema: Any, data: Any) -> bool:
    """Whether checking is done in no time, whatever the schema's and the data's authors intend."""
    places = 0
    for key, _ in _walk(schema):
        places += 1
        if key in _SLOW:
            return False
    return places * sum(1 for _ in _walk(data)) <= _QUICK


def check_schema(schema: Any) -> None:
    """Raise ``BadSchema`` for what is no JSON Schema."""
    from jsonschema.exceptions import SchemaError

    try:
        _validator_class(schema).check_schema(schema)
    except SchemaError as error:
        where = error.json_path if error.path else "it"
        raise BadSchema(f"{where}: {_short(error.message)}") from error
    except RecursionError:
        raise BadSchema("it is nested too deep") from None


def errors_of(schema: Any, data: Any) -> list[dict[str, str]]:
    """What is wrong with the data, each with its place (``$.items[0].price``). Raises ``BadSchema``."""
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    check_schema(schema)
    validator = _quick_class(_validator_class(schema))(schema, registry=Registry())
    found: list[dict[str, str]] = []
    try:
        for error in validator.iter_errors(data):
            found.append({"path": error.json_path, "message": _short(error.message)})
            if len(found) == MOST_ERRORS:
                break
    except Unresolvable as error:
        raise BadSchema(f"it refers to what it does not hold: {_short(str(error))}") from error
    except RecursionError:
        raise BadSchema("it, or the data, goes too deep") from None
    return sorted(found, key=lambda one: one["path"])


def _validator_class(schema: Any) -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for

    if not isinstance(schema, Mapping | bool):
        raise BadSchema("a schema is an object, true or false")
    named = schema.get("$schema") if isinstance(schema, Mapping) else None
    if named is None:
        return Draft202012Validator
    found = validator_for(schema, default=None) if isinstance(named, str) else None
    if found is None:
        raise BadSchema(f'"$schema" names no draft that is known here: {_short(str(named))}')
    return found


def _quick_class(found: Any) -> Any:
    """The same draft, but unique items of an array are found in a single pass."""
    from jsonschema.validators import extend

    return extend(found, {"uniqueItems": _unique_items})


def _unique_items(validator: Any, wanted: Any, items: Any, schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError

    if not wanted or not validator.is_type(items, "array"):
        return
    seen: dict[Any, int] = {}
    for place, item in enumerate(items):
        first = seen.setdefault(_comparable(item), place)
        if first != place:
            yield ValidationError(f"its items {first} and {place} are the same")
            return


def _comparable(value: Any) -> Any:
    """Something hashable that is equal where two values are equal in JSON: 1 is 1.0, and no 1 is true."""
    if isinstance(value, Mapping):
        return "object", frozenset((name, _comparable(inner)) for name, inner in value.items())
    if isinstance(value, list | tuple):
        return "array", tuple(map(_comparable, value))
    return ("flag", value) if isinstance(value, bool) else value


def _walk(value: Any) -> Iterator[tuple[str | None, Any]]:
    """Every place in JSON data, each with its key where it has one."""
    waiting: list[tuple[str | None, Any]] = [(None, value)]
    while waiting:
        place = waiting.pop()
        yield place
        inner = place[1]
        if isinstance(inner, Mapping):
            waiting += inner.items()
        elif isinstance(inner, list | tuple):
            waiting += ((None, one) for one in inner)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"


def main() -> None:
    """Read ``[schema, data]``, write ``{"errors": …}`` or ``{"badSchema": …}``."""
    import resource

    # whoever started it may be gone; where a limit cannot be set, a lower one holds
    for kind, most in ((resource.RLIMIT_CPU, _CPU_SECONDS), (resource.RLIMIT_AS, _MEMORY)):
        with suppress(ValueError, OSError):
            resource.setrlimit(kind, (most, most))
    sys.setrecursionlimit(_RECURSION)
    schema, data = json.loads(sys.stdin.buffer.read())
    try:
        answer: dict[str, Any] = {"errors": errors_of(schema, data)}
    except BadSchema as error:
        answer = {"badSchema": str(error)}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
