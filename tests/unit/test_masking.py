"""Secrets are not in what leaves the hub, and what leaves it stays JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hub.api.answers import masked_data, masked_text
from hub.api.views.executions import ExecutionSummary
from hub.engine.secrets import SecretVault
from hub.plugin import SecretSource


class _Source(SecretSource):
    def __init__(self, *values: str) -> None:
        self._values = values

    async def get(self, name: str) -> str | None:
        return None

    def known_values(self) -> tuple[str, ...]:
        return self._values


def view(outputs: Any) -> ExecutionSummary:
    return ExecutionSummary(
        id="0199-1234-true",
        namespace="a",
        flow="b",
        revision=1234,
        state="SUCCESS",
        outputs=outputs,
        created_at="1234-01-01T00:00:00Z",
    )


@pytest.mark.parametrize(
    ("outputs", "masked"),
    [
        ({"pin": 1234, "n": 12345}, {"pin": "******", "n": 12345}),
        ({"on": True, "off": False, "none": None}, {"on": "******", "off": False, "none": None}),
        ({"1234": ["x1234y", {"t": "true"}]}, {"******": ["x******y", {"t": "******"}]}),
        ({"q": 'say "hi"\n'}, {"q": "******"}),
        ({"line": 'the "second" line\nmore'}, {"line": "******\nmore"}),
        ({"b": "MTIzNA=="}, {"b": "******=="}),
        ({"x": 12.5}, {"x": "******"}),
    ],
)
def test_a_secret_is_masked_wherever_it_is_a_value(outputs: Any, masked: Any) -> None:
    vault = SecretVault([_Source("1234", "true", 'say "hi"\n', 'first\nthe "second" line\n', "12.5")])
    seen = json.loads(masked_text(view(outputs), vault))
    assert seen["outputs"] == masked
    assert masked_data(view(outputs), vault) == seen


def test_what_the_hub_made_stays_as_it_is() -> None:
    vault = SecretVault([_Source("1234", "true")])
    seen = json.loads(masked_text(view({"n": 1234}), vault))
    assert (seen["id"], seen["revision"], seen["createdAt"]) == (
        "0199-1234-true",
        1234,
        "1234-01-01T00:00:00Z",
    )
