"""Inputs from outside become plain data of their type, or are refused in words."""

from __future__ import annotations

from typing import Any

import pytest

from hub.config.inputs import convert
from hub.model.flow import InputType


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (InputType.FLOAT, 10**400),
        (InputType.FLOAT, "1e400"),
        (InputType.FLOAT, "nan"),
        (InputType.FLOAT, True),
        (InputType.JSON, "[1e999, 12345678901234567890]"),
        (InputType.JSON, "[" * 3000 + "12345678901234567890" + "]" * 3000),
        (InputType.JSON, '["\\ud800", 12345678901234567890]'),
        (InputType.INT, "9" * 5000),
    ],
)
def test_what_no_number_or_json_can_be_is_refused(kind: InputType, value: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        convert(kind, value)


def test_numbers_and_json_are_taken_in_the_usual_spellings() -> None:
    assert convert(InputType.FLOAT, 3) == 3.0
    assert convert(InputType.FLOAT, " 2.5 ") == 2.5
    assert convert(InputType.JSON, '{"a": 12345678901234567890123}') == {"a": 12345678901234567890123}
