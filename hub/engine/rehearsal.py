"""Let a trigger happen on purpose, for ``hub triggers test``: a request as its sender would send it, an event with given data.

What starts then is real: an event is stored, executions run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.alias_generators import to_camel

from hub.config.components import message_of
from hub.engine.triggers import TriggerSupervisor
from hub.errors import InvalidInput
from hub.model.event import Occurrence, Receipt
from hub.model.ids import TriggerKey
from hub.plugin.context import Bookmark, Emit, TriggerContext
from hub.plugin.trigger import HTTP_METHODS, EventTrigger, HttpAnswer, HttpRequest, HttpTrigger, Trigger

TESTED = "hub.trigger.tested"
"""The type of a tested event where its own would start all the others that wait for such an event."""


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What a test did."""

    receipts: Sequence[Receipt]
    sent: HttpRequest | None = None
    answer: HttpAnswer | None = None


async def rehearse(triggers: TriggerSupervisor, name: TriggerKey, data: Any, *, given: bool) -> Rehearsed:
    """Let a trigger happen with ``data``, or with a sample where none is given. Raises ``HubError``."""
    trigger, ctx, emit = await triggers.ready(name)
    if isinstance(trigger, HttpTrigger):
        return await _request(trigger, ctx, emit, data if given else {})
    found = _checked(trigger, name, data if given else trigger.sample_data(ctx.now()), given=given)
    type = TESTED if isinstance(trigger, EventTrigger) else None
    return Rehearsed(await emit(Occurrence(found, type=type)))


async def _request(trigger: HttpTrigger, ctx: TriggerContext, emit: Emit, data: Any) -> Rehearsed:
    body, headers = trigger.sample(data, ctx.now())
    method = next((one for one in ("POST", *HTTP_METHODS) if trigger.takes(one)), "POST")
    lower = {name.lower(): value for name, value in headers.items()}
    request = HttpRequest(
        method, lower, {}, body, raw=body, content_type=lower.get("content-type", "").partition(";")[0]
    )
    noting = _NotingEmit(emit)
    answer = await trigger.receive(request, ctx, noting)
    return Rehearsed(noting.receipts, request, answer)


def _checked(trigger: Trigger, name: TriggerKey, data: Any, *, given: bool) -> Mapping[str, Any]:
    """Data that the trigger might have brought."""
    model = trigger.Data
    if data is None and not given:
        if model is None:
            return {}
        hint = f"give it data: {', '.join(_public_names(model))}"
        raise InvalidInput(f"trigger {name} has no sample of its own", hint=hint)
    if not isinstance(data, Mapping):
        raise InvalidInput("data is an object: what expressions see as trigger")
    if model is not None:
        _check(model, data)
    return data


def _check(model: type[BaseModel], data: Mapping[str, Any]) -> None:
    """Refuse what the model of a trigger's data does not hold; what lies deeper is the flow's own affair."""
    names = _public_names(model)
    try:
        model.model_validate({names.get(name, name): value for name, value in data.items()})
    except ValidationError as error:
        public = {python: name for name, python in names.items()}
        for one in error.errors(include_url=False):
            if len(one["loc"]) == 1:
                where = str(one["loc"][0])
                hint = f"its data: {', '.join(names)}"
                raise InvalidInput(
                    f"data.{public.get(where, where)[:60]}: {message_of(one)}", hint=hint
                ) from error


def _public_names(model: type[BaseModel]) -> dict[str, str]:
    """What the model reads each field by, by the name that users write."""
    return {
        field.serialization_alias or to_camel(name): field.alias or name
        for name, field in model.model_fields.items()
    }


class _NotingEmit(Emit):
    """Passes on, and remembers what became of it."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self.receipts: list[Receipt] = []

    async def __call__(
        self,
        occurrences: Sequence[Occurrence] | Occurrence,
        *,
        state: Mapping[str, Any] | None = None,
        bookmark: Bookmark | None = None,
    ) -> list[Receipt]:
        receipts = await self._emit(occurrences, state=state, bookmark=bookmark)
        self.receipts += receipts
        return receipts
