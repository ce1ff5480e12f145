"""Rendering agrees with Jinja2 on the grammar that both have.

Left out, because they differ on purpose: booleans and null are spelled as JSON, lists and mappings inside
text are JSON, missing members are errors, a template keeps its last line break.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import jinja2
import pytest
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


SAME = [
    r"{{ '\a\v\f\b\t\r\\\'' }}", r"{{ '\101\60\0' }}", r"{{ '\x41\u00e9\U0001F600\N{BULLET}' }}", r"{{ '\d\/\q' }}", "{{ 'a\\\nb' }}",
    r'{{ "it\"s" }}', "{{ nope | default(default_value='x') }}", "{{ '' | default('x', boolean=true) }}", "{{ z | default('x', true) }}",
    "{{ l | join(d='-') }}", "{{ d | join(',') }}", "{{ o | join(', ', attribute='name') }}", "{{ o | join(', ', attribute='at.k') }}",
    "{{ 'aaa' | replace(old='a', new='b', count=2) }}", "{{ 'xax' | trim(chars='x') }}", "{{ c | round(precision=1) }}", "{{ c | round(method='ceil') }}",
    "{% for (a, b) in p %}{{ a }}{{ b }};{% endfor %}", "{% for a, b, c in q %}{{ a }}{{ b }}{{ c }};{% endfor %}", "{% for x in 1, 2, 3 %}{{ x }}{% endfor %}",
    "{% for x in 1, 2, 3 if x > 1 %}{{ x }}{% endfor %}", "{% for x in l %}{{ loop.depth }}{{ loop.depth0 }}{% for y in l %}{{ loop.depth }}{% endfor %}{% endfor %}",
    "{% for x in l %}{{ x }}{{ ', ' if not loop.last }}{% endfor %}", "{{ 'a' if z }}", "{{ 'a' if z else 'b' if z }}", "a{{ ('x' if z) if a else 'y' }}b",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
@pytest.mark.parametrize("source", SAME)
def test_what_is_easily_read_otherwise_is_read_as_jinja2_does(source: str) -> None:
    scope = {
        **_SCOPE,
        "d": {"k": 1, "m": 2},
        "p": [[1, 2], [3, 4]],
        "q": [[1, 2, 3]],
        "o": [{"name": "Ada", "at": {"k": 1}}],
    }
    ours = compile_template(source + "\x00", _FUNCTIONS).evaluate(scope)
    assert ours[:-1] == _ORACLE.from_string(source).render(scope)


def test_null_is_no_missing_value_to_default_as_in_jinja2() -> None:
    assert compile_template("{{ n | default('x') }}", _FUNCTIONS).evaluate({"n": None}) is None


@pytest.mark.parametrize(
    "source", ["{% for loop in l %}{% endfor %}", r"{{ '\x4' }}", r"{{ '\U0011FFFF' }}", r"{{ '\N{NOPE}' }}"]
)
def test_what_jinja2_refuses_is_refused(source: str) -> None:
    assert _ours(source) is None
    with pytest.raises(jinja2.TemplateError):
        _ORACLE.from_string(source)
