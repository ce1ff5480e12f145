"""What tasks give back, as plain JSON data: later tasks see the same, whether it was just given or read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from hub.errors import InvalidInput
from hub.model import jsontext
from hub.model.naming import spelled

_HINT = "give text, numbers, true and false, null, lists, and mappings whose keys are text"


class Unstorable(InvalidInput):
    """What a task gave is no data."""


def outputs_of(returned: Any, model: type[BaseModel] | None = None) -> Mapping[str, Any]:
    """The outputs that a task returned: a model, a mapping that ``model`` describes, any other value, or nothing.

    Raises ``Unstorable`` for what cannot be stored.
    """
    if returned is None:
        return {}
    if isinstance(returned, BaseModel):
        returned = spelled(returned)
    elif isinstance(returned, dict | Mapping):  # the first of them is asked for in no time
        returned = spelled(returned, model)
    found: Mapping[str, Any] = plain(
        returned if isinstance(returned, dict | Mapping) else {"value": returned}
    )
    return found


def plain(value: Any) -> Any:
    """The value as it comes back from the storage. Raises ``Unstorable`` for what cannot be stored."""
    if jsontext.is_flat(value):
        return value.copy()
    try:
        return jsontext.loads(jsontext.dump_bytes(value))
    except (TypeError, ValueError, RecursionError, InvalidInput) as error:
        reason = str(error).split("\n", 1)[0][:200]
        raise Unstorable(f"it gave what cannot be stored: {reason}", hint=_HINT) from error
