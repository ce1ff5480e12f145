"""``notify:``, on a flow and in ``hub.yaml``: who is told of an execution's end, and how much at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from hub.model.flow import NoticeTemplate, NotifyRule
from hub.model.ids import is_id
from hub.plugin.component import Model
from hub.plugin.fields import Duration, NotifierNames

End = Literal["SUCCESS", "WARNING", "FAILED", "KILLED", "CANCELLED"]
LONGEST = timedelta(days=7)
"""How long a notice may be kept back."""


class Template(Model):
    """The texts of a notice; each may hold expressions."""

    subject: str | None = Field(None, description="One line; says flow and state by default.")
    message: str | None = Field(None, description="The text; says what went wrong by default.")
    html: str | None = Field(None, description="The text as HTML, for those who show it.")


_TEXT = {"type": "string"}
Texts = Annotated[
    Template,
    BeforeValidator(lambda value: {"message": value} if isinstance(value, str) else value),
    WithJsonSchema(
        {
            "anyOf": [
                _TEXT,
                {
                    "type": "object",
                    "properties": {"subject": _TEXT, "message": _TEXT, "html": _TEXT},
                    "additionalProperties": False,
                },
            ]
        }
    ),
]
"""A template; the message alone may stand for it."""


class Notify(Model):
    """Who is told of an execution's end."""

    on: list[End] = Field(["FAILED"], min_length=1, description="The states that are told of.")
    to: NotifierNames = Field(
        min_length=1, description="Whom: a name under `notifiers:` in hub.yaml, or several."
    )
    template: Texts = Field(
        Template(), description="What to say: the message, or `subject`, `message` and `html`."
    )
    throttle: Duration | None = Field(
        None,
        description="At most one notice in this time: the first at once, what follows together after it.",
    )
    digest: Duration | None = Field(
        None,
        description="Gather what happens in this time, from the first on, into one notice.",
    )

    @field_validator("on", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [value.upper()] if isinstance(value, str) else value

    @field_validator("to")
    @classmethod
    def _are_names(cls, value: str | list[str]) -> str | list[str]:
        for name in [value] if isinstance(value, str) else value:
            if not is_id(name):
                raise ValueError(f'"{name[:60]}" cannot be a name under notifiers:')
        return value

    @field_validator("throttle", "digest")
    @classmethod
    def _is_a_while(cls, value: timedelta | None) -> timedelta | None:
        if value is not None and not timedelta() < value <= LONGEST:
            raise ValueError("a notice is kept back for more than nothing and at most 7 days")
        return value

    @model_validator(mode="after")
    def _one_way(self) -> Notify:
        if self.throttle is not None and self.digest is not None:
            raise ValueError("give either throttle or digest")
        return self

    def rule(self, *, namespace: str | None = None, flow: str | None = None) -> NotifyRule:
        """The same as the engine takes it."""
        texts = self.template
        return NotifyRule(
            states=frozenset(self.on),
            to=(self.to,) if isinstance(self.to, str) else tuple(dict.fromkeys(self.to)),
            template=NoticeTemplate(texts.subject, texts.message, texts.html),
            throttle=self.throttle,
            digest=self.digest,
            namespace=namespace,
            flow=flow,
        )


class NotifyRuleSettings(Notify):
    """Who is told of the ends of a hub's executions, of those of a namespace, or of a flow."""

    namespace: str | None = Field(None, description="Only this namespace, and those below it.")
    flow: str | None = Field(None, description="Only the flow of this id; with `namespace`, only its own.")
