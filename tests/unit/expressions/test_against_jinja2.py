"""Rendering agrees with Jinja2 on the grammar that both have.

Left out, because they differ on purpose: booleans and null are spelled as JSON, lists and mappings inside
text are JSON, missing members are errors, a template keeps its last line break.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import jinja2
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.errors import ExpressionError
from hub.expressions import builtin_functions, compile_template

_ORACLE = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
_FUNCTIONS = builtin_functions(lambda: datetime(2026, 1, 1, tzinfo=UTC))
_SCOPE: dict[str, Any] = {
    "a": 7,
    "b": -3,
    "c": 2.5,
    "s": "Hub",
    "t": " x y ",
    "l": [3, 1, 2],
    "w": ["p", "q"],
    "z": 0,
}

_NUMBERS = st.one_of(
    st.integers(0, 50).map(str), st.sampled_from(["a", "b", "c", "z", "l[0]", "l|length", "l|first"])
)
_TEXTS = st.one_of(
    st.text("abcXYZ 019_-", max_size=6).map(lambda text: f"'{text}'"),
    st.sampled_from(["s", "t", "w[1]", "w|join('-')", "w|last"]),
)


def _arithmetic(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operators = st.sampled_from([" + ", " - ", " * ", "+", "-", "*", " // ", " % ", " / "])
    return st.one_of(
        st.tuples(inner, operators, inner).map("".join),
        inner.map(lambda one: f"({one})"),
        inner.map(lambda one: f"-{one}"),
        inner.map(lambda one: f"({one})|abs"),
        st.tuples(_conditions_over(inner), inner, inner).map(lambda x: f"({x[1]} if {x[0]} else {x[2]})"),
    )


def _conditions_over(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    compared = st.tuples(inner, st.sampled_from([" < ", " <= ", " == ", " != ", " > ", " >= "]), inner).map(
        "".join
    )
    return st.recursive(
        compared,
        lambda one: st.one_of(
            st.tuples(one, st.sampled_from([" and ", " or "]), one).map("".join),
            one.map(lambda c: f"not ({c})"),
        ),
        max_leaves=3,
    )


_NUMERIC = st.recursive(_NUMBERS, _arithmetic, max_leaves=8)
_TEXTUAL = st.recursive(
    _TEXTS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" ~ ", " + "]), inner).map(lambda x: f"({''.join(x)})"),
        st.tuples(
            inner, st.sampled_from(["upper", "lower", "trim", "replace('a', 'b')", "default('d')"])
        ).map("|".join),
    ),
    max_leaves=5,
)
_CONDITION = _conditions_over(_NUMERIC)
_PIECE = st.one_of(
    st.text("abc \n{}%#-", max_size=5).map(
        lambda text: text.replace("{", "(").replace("%", "").replace("#", "")
    ),
    _NUMERIC.map(lambda one: f"{{{{ {one} }}}}"),
    _TEXTUAL.map(lambda one: f"{{{{- {one} -}}}}"),
    _TEXTUAL.map(lambda one: f"{{{{{one}}}}}"),
    st.tuples(_CONDITION, _TEXTUAL).map(
        lambda x: f"{{% if {x[0]} %}}yes {{{{ {x[1]} }}}}{{% elif z %}}z{{%- else -%}} no {{% endif %}}"
    ),
    _NUMERIC.map(
        lambda one: (
            f"{{% for i in l if i != 2 %}}{{{{ loop.index }}}}/{{{{ loop.length }}}}:{{{{ i * ({one}) }}}};{{% else %}}-{{% endfor %}}"
        )
    ),
)


def _oracle(source: str) -> str | None:
    try:
        return str(_ORACLE.from_string(source).render(_SCOPE))
    except (ZeroDivisionError, TypeError, OverflowError, jinja2.TemplateError):
        return None


def _ours(source: str) -> str | None:
    try:
        # text around it, so that a single expression is spelled as text too
        return str(compile_template(source + "\x00", _FUNCTIONS).evaluate(_SCOPE))[:-1]
    except ExpressionError:
        return None


@settings(max_examples=600, deadline=None)
@given(st.lists(_PIECE, min_size=1, max_size=4).map("".join))
def test_rendering_agrees_with_jinja2(source: str) -> None:
    wanted = _oracle(source)
    found = _ours(source)
    if wanted is not None and any(word in wanted for word in ("inf", "nan", "j)")):
        return  # ours refuses what is no number in JSON
    assert found == wanted
