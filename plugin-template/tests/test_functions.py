"""The functions for expressions, as a flow calls them."""

import pytest
from asynchub_example.functions import example_short


@pytest.mark.parametrize(
    ("text", "length", "short"), [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("abc", 0, "…")]
)
def test_a_text_is_cut(text, length, short):
    assert example_short(text, length) == short


async def test_an_expression_calls_it(run_task):
    result = await run_task("return", value="{{ example_short('a long text', 7) }}")
    assert result.outputs == {"value": "a long…"}
