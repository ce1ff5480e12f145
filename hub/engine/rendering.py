"""Rendering: fields as written become values, over a scope of names.

Compiled once per flow revision. A field without an expression costs nothing per run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hub.engine.secrets import SecretVault
from hub.expressions import FunctionTable, NeedsAnswer, Request, compile_template

Scope = Mapping[str, Any]
Answers = Mapping[Request, object]
Evaluate = Callable[[Scope, Answers], Any]


class Field:
    """A compiled field: constant, or evaluated over a scope."""

    __slots__ = ("constant", "evaluate", "is_constant")

    def __init__(self, raw: Any, functions: FunctionTable) -> None:
        evaluate = _compile(raw, functions)
        self.is_constant = evaluate is None
        self.constant = raw
        self.evaluate: Evaluate = evaluate or (lambda scope, answers: raw)

    async def render(self, scope: Scope, vault: SecretVault) -> Any:
        """The value over ``scope``. Raises ``ExpressionError``, ``NotFound`` for a secret."""
        if self.is_constant:
            return self.constant
        answers: dict[Request, object] = {}
        while True:
            try:
                return self.evaluate(scope, answers)
            except NeedsAnswer as need:
                answers[need.request] = await vault.answer(need.request)


def at_once(fields: Mapping[str, Field], scope: Scope) -> dict[str, Any] | None:
    """The values of fields that need nobody's answer, a secret say; None where one does.

    Raises ``ExpressionError``.
    """
    try:
        return {name: field.evaluate(scope, {}) for name, field in fields.items()}
    except NeedsAnswer:
        return None


def _compile(raw: Any, functions: FunctionTable) -> Evaluate | None:
    """A closure for what holds an expression, None for a constant."""
    if isinstance(raw, str):
        if "{" not in raw:
            return None
        template = compile_template(raw, functions)
        if template.is_constant and template.source == raw and "{%" not in raw:
            return None
        return template.evaluate
    if isinstance(raw, Mapping):
        items = {key: _compile(value, functions) for key, value in raw.items()}
        if not any(items.values()):
            return None
        pairs = [(key, raw[key], evaluate) for key, evaluate in items.items()]
        return lambda scope, answers: {
            key: evaluate(scope, answers) if evaluate else value for key, value, evaluate in pairs
        }
    if isinstance(raw, list | tuple):
        parts = [_compile(value, functions) for value in raw]
        if not any(parts):
            return None
        both = list(zip(raw, parts, strict=True))
        return lambda scope, answers: [
            evaluate(scope, answers) if evaluate else value for value, evaluate in both
        ]
    return None
