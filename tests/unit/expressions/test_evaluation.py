"""What expressions give: values, paths, operators, filters, tests, functions, statements and their errors."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import pytest

from hub.errors import ExpressionError, MissingMember
from hub.expressions import (
    FunctionTable,
    NeedsAnswer,
    Request,
    Template,
    builtin_functions,
    compile_template,
    parse_template,
    strip_raw,
)

NOW = datetime(2026, 1, 31, 12, 30, 15, 250_000, tzinfo=UTC)
FUNCTIONS = builtin_functions(lambda: NOW)
SCOPE: Mapping[str, Any] = {
    "n": 7,
    "price": 2.5,
    "name": "Ada",
    "empty": "",
    "nothing": None,
    "yes": True,
    "no": False,
    "items": [1, 2, 3],
    "orders": [{"id": "a", "qty": 2}, {"id": "b", "qty": 5}],
    "outputs": {"my-task": {"x": 1}, "fetch": {"status": 200, "rows": [[1, 2], [3, 4]]}},
    "byNumber": {"1": "one", "1.5": "one and a half"},
}


def evaluate(source: str, scope: Mapping[str, Any] = SCOPE, functions: FunctionTable = FUNCTIONS) -> Any:
    return compile_template(source, functions).evaluate(scope)


def refusal(source: str, scope: Mapping[str, Any] = SCOPE) -> ExpressionError:
    with pytest.raises(ExpressionError) as caught:
        evaluate(source, scope)
    return caught.value


def place(source: str, error: ExpressionError) -> str:
    return source[error.start : error.end]


# -- what a template gives


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("{{ n }}", 7),
        ("{{ price }}", 2.5),
        ("{{ yes }}", True),
        ("{{ nothing }}", None),
        ("{{ items }}", [1, 2, 3]),
        ("{{ outputs.fetch }}", {"status": 200, "rows": [[1, 2], [3, 4]]}),
        ("{{n}}", 7),
        ("{{- n -}}", 7),
    ],
)
def test_exactly_one_expression_keeps_its_type(source: str, value: object) -> None:
    result = evaluate(source)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("n={{ n }}", "n=7"),
        ("{{ n }}{{ n }}", "77"),
        (" {{ n }}", " 7"),
        ("{{ n }} ", "7 "),
        ("{% if yes %}{{ n }}{% endif %}", "7"),
    ],
)
def test_anything_beside_the_expression_makes_text(source: str, text: str) -> None:
    assert evaluate(source) == text


def test_a_closing_line_break_does_not_make_a_value_text() -> None:
    assert evaluate("{{ n }}\n") == 7


def test_text_without_braces_is_itself() -> None:
    assert evaluate("plain { } % text") == "plain { } % text"


def test_an_empty_template_is_empty_text() -> None:
    assert evaluate("") == ""


def test_a_hash_after_a_brace_is_plain_text() -> None:
    assert evaluate("{# {{ n }} #}") == "{# 7 #}"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ true }}{{ false }}{{ null }}", "truefalsenull"),
        ("{{ 1 }} {{ 1.0 }} {{ 1e300 }}", "1 1.0 1e+300"),
        ("x{{ [1, 'a', none] }}", 'x[1,"a",null]'),
        ("x{{ {'a': [true]} }}", 'x{"a":[true]}'),
        ("x{{ 'é' }}{{ ['é'] }}", 'xé["é"]'),
        ("x{{ 18446744073709551616 * 4 }}", "x73786976294838206464"),
        ("x{{ [18446744073709551616 * 4] }}", "x[73786976294838206464]"),
    ],
)
def test_values_inside_text_are_spelled_as_json(source: str, text: str) -> None:
    assert evaluate(source) == text


def test_a_template_knows_whether_it_is_one_expression() -> None:
    assert compile_template("{{ n }}", FUNCTIONS).is_single
    assert not compile_template("a{{ n }}", FUNCTIONS).is_single


def test_a_template_knows_whether_it_is_constant() -> None:
    assert compile_template("a {% raw %}{{ n }}{% endraw %}", FUNCTIONS).is_constant
    assert not compile_template("{{ 1 }}", FUNCTIONS).is_constant


def test_the_same_text_is_compiled_once() -> None:
    assert compile_template("{{ n + 1 }}", FUNCTIONS) is compile_template("{{ n + 1 }}", FUNCTIONS)


def test_a_compiled_template_keeps_nothing_of_an_evaluation() -> None:
    template = compile_template("{% for x in items %}{{ x }}{% endfor %}", FUNCTIONS)
    assert template.evaluate({"items": [1]}) == "1"
    assert template.evaluate({"items": [2, 3]}) == "23"


def test_the_scope_is_not_changed() -> None:
    scope = {"items": [1], "x": "outer"}
    evaluate("{% for x in items %}{{ loop.index }}{% endfor %}{{ items + [2] }}", scope)
    assert scope == {"items": [1], "x": "outer"}


# -- literals


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("{{ true }}", True),
        ("{{ True }}", True),
        ("{{ false }}", False),
        ("{{ False }}", False),
        ("{{ null }}", None),
        ("{{ none }}", None),
        ("{{ None }}", None),
        ("{{ 0 }}", 0),
        ("{{ 1_000 }}", 1000),
        ("{{ 0x1F }}", 31),
        ("{{ 0b101 }}", 5),
        ("{{ 0o17 }}", 15),
        ("{{ 1.5 }}", 1.5),
        ("{{ 1.5e3 }}", 1500.0),
        ("{{ 2e-3 }}", 0.002),
        ("{{ 'a' }}", "a"),
        ('{{ "a" }}', "a"),
        ("{{ 'it\\'s' }}", "it's"),
        ("{{ 'a\\nb\\t\\\\' }}", "a\nb\t\\"),
        ("{{ '\\u00e9\\x41' }}", "éA"),
        ("{{ 'a' 'b' \"c\" }}", "abc"),
        ("{{ '}}' }}", "}}"),
        ("{{ '{% if %}' }}", "{% if %}"),
        ("{{ [] }}", []),
        ("{{ [1, [2],] }}", [1, [2]]),
        ("{{ {} }}", {}),
        ("{{ {'a': 1, 'b': {'c': 2}} }}", {"a": 1, "b": {"c": 2}}),
        ("{{ {name: n} }}", {"Ada": 7}),
        ("{{ (1) }}", 1),
        ("{{ (1, 2) }}", [1, 2]),
        ("{{ (1,) }}", [1]),
        ("{{ () }}", []),
    ],
)
def test_a_literal_gives_its_value(source: str, value: object) -> None:
    result = evaluate(source)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize("source", ["{{ 'a }}", '{{ "a }}', "{{ 'a\\' }}"])
def test_an_open_text_is_refused_with_the_quote_to_write(source: str) -> None:
    error = refusal(source)
    assert error.message == "the text is not closed"
    assert error.hint == f"close it with {source[3]}"
    assert error.start == 3


def test_a_key_of_a_mapping_is_text() -> None:
    error = refusal("{{ {1: 2} }}")
    assert error.message == "a mapping's key is text, got a number"


# -- paths


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("{{ outputs.fetch.status }}", 200),
        ("{{ outputs['fetch']['status'] }}", 200),
        ("{{ outputs['my-task'].x }}", 1),
        ("{{ outputs . fetch . status }}", 200),
        ("{{ orders[1].id }}", "b"),
        ("{{ orders.1.id }}", "b"),
        ("{{ items[-1] }}", 3),
        ("{{ items[n - 5] }}", 3),
        ("{{ name[0] }}", "A"),
        ("{{ outputs[empty ~ 'fetch'].status }}", 200),
        ("{{ byNumber[1] }}", "one"),
        ("{{ byNumber.1 }}", "one"),
        ("{{ byNumber[1.5] }}", "one and a half"),
        ("{{ {'a': {'b': 5}}.a.b }}", 5),
        ("{{ [[1, 2]][0][1] }}", 2),
        ("{{ outputs.fetch.rows[1][0] }}", 3),
    ],
)
def test_a_path_reads_members_and_items(source: str, value: object) -> None:
    assert evaluate(source) == value


def test_a_member_may_have_the_name_of_a_word_of_the_grammar() -> None:
    assert evaluate("{{ a.if.in.not }}", {"a": {"if": {"in": {"not": 1}}}}) == 1


def test_a_member_may_have_the_name_of_a_python_method() -> None:
    assert evaluate("{{ d.items }}{{ d.keys }}", {"d": {"items": 1, "keys": 2}}) == "12"


def test_a_mapping_that_is_no_dict_is_read_too() -> None:
    assert evaluate("{{ a.b }}", {"a": MappingProxyType({"b": 1})}) == 1


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        ("{{ nme }}", 'there is no "nme" here', 'did you mean "name"?'),
        (
            "{{ outputs.fetch.stauts }}",
            '"outputs.fetch.stauts" is missing: "outputs.fetch" has no "stauts"',
            'did you mean "status"?',
        ),
        (
            "{{ outputs['a-b'] }}",
            '"outputs[\'a-b\']" is missing: "outputs" has no "a-b"',
            None,
        ),
        ("{{ items[3] }}", '"items[3]" is missing: "items" has no [3]', "it has 3 items"),
        ("{{ name.first }}", '"name.first" is missing: "name" has no "first"', "it is text"),
        ("{{ nothing.x }}", '"nothing.x" is missing: "nothing" has no "x"', "it is null"),
        ("{{ n.x.y }}", '"n.x" is missing: "n" has no "x"', "it is a number"),
        ("{{ yes.x }}", '"yes.x" is missing: "yes" has no "x"', "it is a boolean"),
        ("{{ items.x }}", '"items.x" is missing: "items" has no "x"', "it is a list"),
        ("{{ {}.x }}", 'the value has no "x"', None),
        ("{{ items[n] }}", '"items[7]" is missing: "items" has no [7]', "it has 3 items"),
    ],
)
def test_a_missing_member_is_named_with_its_path(source: str, message: str, hint: str | None) -> None:
    error = refusal(source)
    assert isinstance(error, MissingMember)
    assert (error.message, error.hint) == (message, hint)
    assert place(source, error) == source[3:-3]


@pytest.mark.parametrize("key", ["true", "null", "[1]", "{'a': 1}"])
def test_a_key_is_text_or_a_number(key: str) -> None:
    source = f"{{{{ outputs[{key}] }}}}"
    error = refusal(source)
    assert error.message.startswith("a key is text or a number, got ")
    assert place(source, error) == key


@pytest.mark.parametrize(
    "source", ["{{ name.upper() }}", "{{ items.append(1) }}", "{{ 'a'() }}", "{{ (n)() }}", "{{ now()() }}"]
)
def test_values_cannot_be_called(source: str) -> None:
    error = refusal(source)
    assert error.message == "only functions can be called; values have no methods"
    assert error.hint == "use a filter: value | name(…)"


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("{{ items[1:] }}", [2, 3]),
        ("{{ items[:1] }}", [1]),
        ("{{ items[:] }}", [1, 2, 3]),
        ("{{ items[::2] }}", [1, 3]),
        ("{{ items[::-1] }}", [3, 2, 1]),
        ("{{ items[-2:] }}", [2, 3]),
        ("{{ items[1:1] }}", []),
        ("{{ items[5:9] }}", []),
        ("{{ name[1:] }}", "da"),
        ("{{ name[::-1] }}", "adA"),
        ("{{ items[1:][0] }}", 2),
    ],
)
def test_a_slice_cuts_lists_and_texts(source: str, value: object) -> None:
    assert evaluate(source) == value


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ n[1:] }}", "a number cannot be cut"),
        ("{{ outputs[1:] }}", "a mapping cannot be cut"),
        ("{{ items['a':] }}", "a bound is a whole number, got text"),
        ("{{ items[:1.5] }}", "a bound is a whole number, got a number"),
        ("{{ items[::0] }}", "the step is 0"),
    ],
)
def test_a_slice_that_makes_no_sense_is_refused(source: str, message: str) -> None:
    assert refusal(source).message == message


# -- operators


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("{{ 1 + 2 * 3 }}", 7),
        ("{{ (1 + 2) * 3 }}", 9),
        ("{{ 7 / 2 }}", 3.5),
        ("{{ 7 // 2 }}", 3),
        ("{{ -7 // 2 }}", -4),
        ("{{ 7 % 3 }}", 1),
        ("{{ 2 ** 10 }}", 1024),
        ("{{ 2 ** 3 ** 2 }}", 64),
        ("{{ -2 ** 2 }}", 4),
        ("{{ 2 ** -1 }}", 0.5),
        ("{{ 10 - 2 - 3 }}", 5),
        ("{{ - - 1 }}", 1),
        ("{{ +1 }}", 1),
        ("{{ 'a' + 'b' }}", "ab"),
        ("{{ [1] + [2] }}", [1, 2]),
        ("{{ 'ab' * 2 }}", "abab"),
        ("{{ 2 * 'ab' }}", "abab"),
        ("{{ [0] * 3 }}", [0, 0, 0]),
        ("{{ 'a' * -1 }}", ""),
        ("{{ 1 ~ 'a' ~ true ~ null ~ 1.5 ~ [1] }}", "1atruenull1.5[1]"),
        ("{{ 1 ~ 2 * 3 }}", "16"),
        ("{{ 'a' ~ 'b' == 'ab' }}", True),
        ("{{ 1 + 1 == 2 }}", True),
        ("{{ 1 < 2 < 3 }}", True),
        ("{{ 1 < 3 < 2 }}", False),
        ("{{ 1 == 1.0 }}", True),
        ("{{ 1 != 2 }}", True),
        ("{{ 'a' < 'b' }}", True),
        ("{{ [1, 2] < [1, 3] }}", True),
        ("{{ {'a': 1} == {'a': 1.0} }}", True),
        ("{{ 'a' == 1 }}", False),
        ("{{ 2 in items }}", True),
        ("{{ 2 not in items }}", False),
        ("{{ not 2 in items }}", False),
        ("{{ 'd' in name }}", True),
        ("{{ 'fetch' in outputs }}", True),
        ("{{ 1 in byNumber }}", False),
        ("{{ items contains 2 }}", True),
        ("{{ name contains 'x' }}", False),
        ("{{ outputs contains 'fetch' }}", True),
        ("{{ not no and yes }}", True),
        ("{{ yes or no and no }}", True),
        ("{{ not yes or yes }}", True),
        ("{{ not not n }}", True),
    ],
)
def test_an_operator_gives_its_result(source: str, value: object) -> None:
    result = evaluate(source)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("{{ empty or 'x' }}", "x"),
        ("{{ name or 'x' }}", "Ada"),
        ("{{ empty and 'x' }}", ""),
        ("{{ name and n }}", 7),
        ("{{ 0 or [] or {} }}", {}),
    ],
)
def test_and_and_or_give_the_deciding_value(source: str, value: object) -> None:
    assert evaluate(source) == value


@pytest.mark.parametrize(
    "source", ["{{ yes or absent.x }}", "{{ no and absent.x }}", "{{ n == 8 == absent }}"]
)
def test_what_decides_early_leaves_the_rest_unread(source: str) -> None:
    evaluate(source)


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        ("{{ name + 1 }}", '"+" cannot take text and a number', "join texts with ~"),
        ("{{ 1 + name }}", '"+" cannot take a number and text', "join texts with ~"),
        ("{{ items + 1 }}", '"+" cannot take a list and a number', None),
        ("{{ nothing + 1 }}", '"+" cannot take null and a number', None),
        ("{{ name - 1 }}", '"-" cannot take text and a number', None),
        ("{{ outputs * 2 }}", '"*" cannot take a mapping and a number', None),
        ("{{ 'a' * 'b' }}", '"*" cannot take text and text', None),
        ("{{ '%s' % 1 }}", '"%" cannot take text and a number', None),
        ("{{ name ** 2 }}", '"**" cannot take text and a number', None),
        ("{{ -name }}", '"-" takes a number, got text', None),
        ("{{ 1 / 0 }}", "division by zero", None),
        ("{{ 1 // 0 }}", "division by zero", None),
        ("{{ 1 % 0 }}", "division by zero", None),
        ("{{ 0 ** -1 }}", "division by zero", None),
        ("{{ (-8) ** 0.5 }}", "the result is not a real number", None),
        ("{{ 1 < 'a' }}", '"<" cannot compare a number with text', None),
        ("{{ nothing >= 1 }}", '">=" cannot compare null with a number', None),
        ("{{ {} < {} }}", '"<" cannot compare a mapping with a mapping', None),
        ("{{ [1] < ['a'] }}", '"<" cannot compare what the lists hold', None),
        ("{{ 1 in 'a' }}", "text contains text, not a number", None),
        ("{{ 1 in 2 }}", "a number contains nothing; expected a list, a mapping or text", None),
        ("{{ nothing contains 1 }}", "null contains nothing; expected a list, a mapping or text", None),
    ],
)
def test_an_operator_says_what_it_cannot_take(source: str, message: str, hint: str | None) -> None:
    error = refusal(source)
    assert (error.message, error.hint) == (message, hint)


def test_an_operators_error_names_its_own_operands_only() -> None:
    source = "{{ 1 + (2 * (name - 1)) }}"
    assert place(source, refusal(source)) == "name - 1"


@pytest.mark.parametrize("source", ["{{ 10**400 * 1.5 }}", "{{ 10**400 + 1.5 }}", "{{ 1.5 - 10**400 }}"])
def test_a_whole_number_too_large_for_a_fraction_is_refused(source: str) -> None:
    assert refusal(source).message == "the result is not a finite number"


# -- ??, conditions


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("{{ absent ?? 1 }}", 1),
        ("{{ outputs.absent.x ?? 1 }}", 1),
        ("{{ nothing ?? 1 }}", 1),
        ("{{ items[9] ?? 1 }}", 1),
        ("{{ outputs[name] ?? 1 }}", 1),
        ("{{ n ?? 1 }}", 7),
        ("{{ no ?? 1 }}", False),
        ("{{ empty ?? 1 }}", ""),
        ("{{ absent ?? nothing ?? 3 }}", 3),
        ("{{ absent ?? absent2 ?? nothing }}", None),
        ("{{ absent ?? 0 + 1 }}", 1),
        ("{{ 1 + absent ?? 2 * 3 }}", 7),
        ("{{ absent ?? 'a' | upper }}", "A"),
        ("{{ name ?? 'a' | upper }}", "Ada"),
        ("{{ (absent ?? 'a') | upper }}", "A"),
        ("{{ (absent.x | upper) ?? 'z' }}", "z"),
        ("{{ [] | first ?? 'none' }}", "none"),
        ("{{ absent ?? 2 ** 3 }}", 8),
        ("{{ absent ?? 1 == 1 }}", True),
    ],
)
def test_double_question_marks_take_the_first_that_is_there(source: str, value: object) -> None:
    assert evaluate(source) == value


@pytest.mark.parametrize("source", ["{{ (name + 1) ?? 2 }}", "{{ (1 / 0) ?? 2 }}", "{{ (name | abs) ?? 2 }}"])
def test_double_question_marks_do_not_hide_other_errors(source: str) -> None:
    assert not isinstance(refusal(source), MissingMember)


def test_double_question_marks_leave_the_right_side_unread() -> None:
    assert evaluate("{{ n ?? absent }}") == 7


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("{{ yes ? 1 : 2 }}", 1),
        ("{{ no ? 1 : 2 }}", 2),
        ("{{ no ? 1 : no ? 2 : 3 }}", 3),
        ("{{ yes ? no ? 1 : 2 : 3 }}", 2),
        ("{{ n > 5 and yes ? 'big' : 'small' }}", "big"),
        ("{{ yes ? {'a': 1} : {} }}", {"a": 1}),
        ("{{ 1 if yes else 2 }}", 1),
        ("{{ 1 if no else 2 }}", 2),
        ("{{ 1 if no else 2 if no else 3 }}", 3),
        ("{{ 1 if yes }}", 1),
        ("{{ absent if no else 2 }}", 2),
        ("{{ yes ? 1 : absent }}", 1),
        ("{{ (1 if no) ?? 'else' }}", "else"),
    ],
)
def test_a_condition_gives_one_side_and_leaves_the_other_unread(source: str, value: object) -> None:
    assert evaluate(source) == value


def test_a_condition_that_does_not_hold_and_has_no_else_is_missing() -> None:
    error = refusal("{{ [1 if no] }}")
    assert isinstance(error, MissingMember)
    assert error.message == 'the condition does not hold and there is no "else"'


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ 1 if no }}", ""),
        ("a{{ 1 if no }}b", "ab"),
        ("a{{ 1 if no else 2 if no }}b", "ab"),
        ("a{{ (1 if no) if yes else 2 }}b", "ab"),
        ("{% for x in items %}{{ x }}{{ ', ' if not loop.last }}{% endfor %}", "1, 2, 3"),
    ],
)
def test_a_condition_that_does_not_hold_and_has_no_else_puts_nothing_out(source: str, text: str) -> None:
    assert evaluate(source) == text


# -- filters


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("{{ absent | default('x') }}", "x"),
        ("{{ outputs.absent.y | default('x') }}", "x"),
        ("{{ nothing | default('x') }}", None),
        ("{{ nothing | default('x', true) }}", "x"),
        ("{{ absent | default }}", ""),
        ("{{ empty | default('x') }}", ""),
        ("{{ empty | default('x', true) }}", "x"),
        ("{{ n | default('x') }}", 7),
        ("{{ [] | first | default('x') }}", "x"),
        ("{{ {'a': [1, null]} | toJson }}", '{"a":[1,null]}'),
        ("{{ 'a' | toJson }}", '"a"'),
        ("{{ '[1, 2.5, null]' | fromJson }}", [1, 2.5, None]),
        ("{{ '{\"a\": 123456789012345678901}' | fromJson }}", {"a": 123456789012345678901}),
        ("{{ items | length }}", 3),
        ("{{ name | length }}", 3),
        ("{{ outputs | length }}", 2),
        ("{{ items | first }}", 1),
        ("{{ items | last }}", 3),
        ("{{ name | first }}", "A"),
        ("{{ items | join(', ') }}", "1, 2, 3"),
        ("{{ items | join }}", "123"),
        ("{{ ['a', 1.5, true, null, [1]] | join('|') }}", "a|1.5|true|null|[1]"),
        ("{{ name | join('-') }}", "A-d-a"),
        ("{{ [] | join(',') }}", ""),
        ("{{ 'a,b,c' | split(',') }}", ["a", "b", "c"]),
        ("{{ 'a,b,c' | split(',', 2) }}", ["a", "b,c"]),
        ("{{ 'a,b,c' | split(',', limit=1) }}", ["a,b,c"]),
        ("{{ ' a  b ' | split }}", ["a", "b"]),
        ("{{ name | lower }}", "ada"),
        ("{{ name | upper }}", "ADA"),
        ("{{ '<a href=\"x\">&</a>' | escape }}", "&lt;a href=&quot;x&quot;&gt;&amp;&lt;/a&gt;"),
        ("{{ 12 | escape }}", "12"),
        ("{{ 12 | upper }}", "12"),
        ("{{ '  a ' | trim }}", "a"),
        ("{{ 'xxaxx' | trim('x') }}", "a"),
        ("{{ 'aaa' | replace('a', 'b') }}", "bbb"),
        ("{{ 'aaa' | replace('a', 'b', 2) }}", "bba"),
        ("{{ 'aaa' | replace('a', 'b', count=1) }}", "baa"),
        ("{{ 'a-b' | replace({'a': '1', 'b': '2'}) }}", "1-2"),
        ("{{ 'ab' | replace('', '-') }}", "-a-b-"),
        ("{{ outputs | keys }}", ["my-task", "fetch"]),
        ("{{ byNumber | values }}", ["one", "one and a half"]),
        ("{{ -3 | abs }}", 3),
        ("{{ (0 - 2.5) | abs }}", 2.5),
        ("{{ 2.5 | round }}", 2.0),
        ("{{ 2.675 | round(1) }}", 2.7),
        ("{{ 1234 | round(-2) }}", 1200),
        ("{{ 2.1 | round(method='ceil') }}", 3.0),
        ("{{ 2.19 | round(1, 'floor') }}", 2.1),
        ("{{ ' Ada ' | trim | upper | length }}", 3),
        ("{{ items | length + 1 }}", 4),
    ],
)
def test_a_filter_gives_its_result(source: str, value: object) -> None:
    result = evaluate(source)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ n | length }}", "a number has no length"),
        ("{{ nothing | length }}", "null has no length"),
        ("{{ outputs | first }}", "a mapping has no first item"),
        ("{{ n | join(',') }}", "join takes a list, got a number"),
        ("{{ items | join([]) }}", "join's separator takes text, got a list"),
        ("{{ items | upper }}", "upper takes text, got a list"),
        ("{{ nothing | lower }}", "lower takes text, got null"),
        ("{{ items | split(',') }}", "split takes text, got a list"),
        ("{{ name | split('') }}", "split's separator is empty"),
        ("{{ name | split(',', 'x') }}", "split's limit is a whole number, got text"),
        ("{{ name | abs }}", "abs takes a number, got text"),
        ("{{ name | round }}", "round takes a number, got text"),
        ("{{ 1 | round(1.5) }}", "round's precision is a whole number, got a number"),
        ("{{ 1 | round(31) }}", "round's precision is between -30 and 30, got 31"),
        ("{{ 1 | round(0, 'up') }}", 'round goes "common", "ceil" or "floor", got "up"'),
        ("{{ name | replace(nothing, 'x') }}", "replace takes text, got null"),
        ("{{ name | replace('a') }}", "replace takes text, got null"),
        ("{{ name | keys }}", "keys takes a mapping, got text"),
        ("{{ items | values }}", "values takes a mapping, got a list"),
        ("{{ n | fromJson }}", "fromJson takes text, got a number"),
        ("{{ '{' | fromJson }}", "the text is not JSON"),
        ("{{ 'NaN' | fromJson }}", "the text is not JSON"),
    ],
)
def test_a_filter_says_what_it_cannot_take(source: str, message: str) -> None:
    error = refusal(source)
    assert error.message.startswith(message)
    assert place(source, error) == source[3:-3]


@pytest.mark.parametrize("source", ["{{ [] | first }}", "{{ '' | last }}"])
def test_the_end_of_what_is_empty_is_missing(source: str) -> None:
    assert isinstance(refusal(source), MissingMember)


def test_default_does_not_hide_other_errors() -> None:
    assert not isinstance(refusal("{{ (name + 1) | default('x') }}"), MissingMember)


@pytest.mark.parametrize(
    ("source", "message", "where"),
    [
        ("{{ name | uper }}", 'unknown filter "uper"', "uper"),
        ("{{ n is ood }}", 'unknown test "ood"', "ood"),
        ("{{ nwo() }}", 'unknown function "nwo"', "nwo"),
    ],
)
def test_an_unknown_word_is_named_with_a_near_one(source: str, message: str, where: str) -> None:
    error = refusal(source)
    assert error.message == message
    assert error.hint in ('did you mean "upper"?', 'did you mean "odd"?', 'did you mean "now"?')
    assert place(source, error) == where


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ name | upper(1) }}", '"upper" takes 0 arguments, got 1'),
        ("{{ name | replace }}", '"replace" takes 1 to 3 arguments, got 0'),
        ("{{ now(1, 2) }}", '"now" takes 0 to 1 arguments, got 2'),
        ("{{ secret() }}", '"secret" takes 1 argument, got 0'),
        ("{{ name | replace('a', 'b', cuont=1) }}", '"replace" has no argument "cuont"'),
        ("{{ n is odd(2) }}", 'the test "odd" takes 0 arguments'),
        ("{{ n is divisibleby }}", 'the test "divisibleby" takes 1 argument'),
    ],
)
def test_a_wrong_number_of_arguments_is_refused_before_anything_runs(source: str, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_template(source, FUNCTIONS)
    assert caught.value.message == message
    assert place(source, caught.value) == source[3:-3]


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("{{ n | date('yyyy', format='MM') }}", id="given twice"),
        pytest.param("{{ name | replace(count=1) }}", id="needed one missing"),
        pytest.param("{{ now(timezone='UTC', timezone='Europe/Paris') }}", id="named twice"),
        pytest.param("{{ n is odd(times=2) }}", id="test with a named argument"),
        pytest.param("{{ n is defined(2) }}", id="defined with an argument"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_before_anything_runs(source: str) -> None:
    with pytest.raises(ExpressionError):
        compile_template(source, FUNCTIONS)


# -- dates


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ '2026-01-31T12:30:15.25Z' | date }}", "2026-01-31T12:30:15.250Z"),
        ("{{ '2026-01-31' | date('yyyy/MM/dd') }}", "2026/01/31"),
        ("{{ '2026-01-31T23:30:00Z' | date('yyyy-MM-dd HH:mm', 'Europe/Paris') }}", "2026-02-01 00:30"),
        ("{{ '2026-07-01T00:00:00Z' | date('HHXXX', timezone='Europe/Paris') }}", "02+02:00"),
        ("{{ 0 | date(format='yyyy') }}", "1970"),
        ("{{ 0.5 | date('SSS') }}", "500"),
        ("{{ 0 | date('EEE EEEE MMM MMMM') }}", "Thu Thursday Jan January"),
        ("{{ 0 | date(\"yy M d H m s 'o''clock'\") }}", "70 1 1 0 0 0 oclock"),
        ("{{ 0 | date('h a k D Q w Y') }}", "12 AM 24 1 1 1 1970"),
        ("{{ 0 | date('X x xx xxx Z z') }}", "Z +00 +0000 +00:00 +0000 UTC"),
        ("{{ now() }}", "2026-01-31T12:30:15.250Z"),
        ("{{ now('Europe/Paris') }}", "2026-01-31T13:30:15.250+01:00"),
        ("{{ now(timezone='UTC') }}", "2026-01-31T12:30:15.250+00:00"),
        ("{{ now() | date('yyyy-MM-dd') }}", "2026-01-31"),
    ],
)
def test_a_date_is_formatted_by_its_pattern(source: str, text: str) -> None:
    assert evaluate(source) == text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ 'soon' | date }}", '"soon" is not a date; expected ISO 8601 such as 2026-01-31T12:00:00Z'),
        ("{{ 1e18 | date }}", '"1e+18" is not a date; expected ISO 8601 such as 2026-01-31T12:00:00Z'),
        ("{{ true | date }}", "expected a date as ISO 8601 text or seconds since 1970, got a boolean"),
        ("{{ items | date }}", "expected a date as ISO 8601 text or seconds since 1970, got a list"),
        ("{{ 0 | date('b') }}", 'unknown letter "b" in the date format'),
        ('{{ 0 | date("\'open") }}', "the date format has an open quote"),
        ("{{ 0 | date('y' * 201) }}", "the date format is longer than 200 characters"),
        ("{{ 0 | date('yyyy', 'Nowhere') }}", 'unknown time zone "Nowhere"'),
        ("{{ now('Nowhere') }}", 'unknown time zone "Nowhere"'),
        ("{{ now('../../etc/passwd') }}", 'unknown time zone "../../etc/passwd"'),
    ],
)
def test_a_date_that_cannot_be_is_refused(source: str, message: str) -> None:
    assert refusal(source).message == message


@pytest.mark.parametrize("source", ["{{ now(1) }}", "{{ '0001-01-01' | date('yyyy', 'America/New_York') }}"])
def test_a_date_that_cannot_be_is_refused_in_the_users_words(source: str) -> None:
    assert "Error" not in refusal(source).message


# -- tests


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("{{ n is defined }}", True),
        ("{{ absent is defined }}", False),
        ("{{ outputs.absent.x is defined }}", False),
        ("{{ nothing is defined }}", True),
        ("{{ absent is undefined }}", True),
        ("{{ absent is not defined }}", True),
        ("{{ n is not undefined }}", True),
        ("{{ nothing is none }}", True),
        ("{{ nothing is null }}", True),
        ("{{ n is not none }}", True),
        ("{{ empty is empty }}", True),
        ("{{ nothing is empty }}", True),
        ("{{ 0 is empty }}", False),
        ("{{ [] is empty }}", True),
        ("{{ name is string }}", True),
        ("{{ n is string }}", False),
        ("{{ price is number }}", True),
        ("{{ n is integer }}", True),
        ("{{ yes is integer }}", False),
        ("{{ price is float }}", True),
        ("{{ yes is boolean }}", True),
        ("{{ yes is true }}", True),
        ("{{ 1 is true }}", False),
        ("{{ no is false }}", True),
        ("{{ outputs is mapping }}", True),
        ("{{ items is sequence }}", True),
        ("{{ n is iterable }}", False),
        ("{{ n is odd }}", True),
        ("{{ n is even }}", False),
        ("{{ 9 is divisibleby 3 }}", True),
        ("{{ 9 is divisibleby(2) }}", False),
        ("{{ 'a' is lower }}", True),
        ("{{ 'a' is upper }}", False),
        ("{{ n is eq 7 }}", True),
        ("{{ n is ne 7 }}", False),
        ("{{ n is lt 8 }}", True),
        ("{{ n is ge(7) }}", True),
        ("{{ 2 is in items }}", True),
        ("{{ 2 is not in items }}", False),
        ("{{ n is odd and n is gt 5 }}", True),
        ("{{ not n is odd }}", False),
        ("{{ items | length is eq 3 }}", True),
    ],
)
def test_a_test_gives_true_or_false(source: str, value: bool) -> None:
    assert evaluate(source) is value


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ name is odd }}", "odd takes a number, got text"),
        ("{{ 9 is divisibleby 0 }}", "division by zero"),
        ("{{ name is lt 1 }}", '"<" cannot compare text with a number'),
        ("{{ 1 is in 2 }}", "a number contains nothing; expected a list, a mapping or text"),
        ("{{ absent is odd }}", 'there is no "absent" here'),
    ],
)
def test_a_test_says_what_it_cannot_take(source: str, message: str) -> None:
    assert refusal(source).message == message


def test_a_test_of_a_number_too_large_for_a_fraction_is_refused() -> None:
    refusal("{{ (10**400) is divisibleby 1.5 }}")


# -- functions


def test_a_function_that_asks_stops_with_its_request() -> None:
    with pytest.raises(NeedsAnswer) as caught:
        evaluate("{{ 'Bearer ' ~ secret('TO' ~ 'KEN') }}")
    assert caught.value.request == Request("secret", ("TOKEN",))


def test_the_answer_is_used_when_evaluated_again() -> None:
    template = compile_template("{{ 'Bearer ' ~ secret('TOKEN') | upper }}", FUNCTIONS)
    answers = {Request("secret", ("TOKEN",)): "abc"}
    assert template.evaluate({}, answers=answers) == "Bearer ABC"


def test_double_question_marks_do_not_hide_a_request() -> None:
    with pytest.raises(NeedsAnswer):
        evaluate("{{ secret('A') ?? 'x' }}")


def test_only_text_can_be_asked_for() -> None:
    assert refusal("{{ secret(1) }}").message == '"secret" takes text'


def test_fromjson_is_a_function_too() -> None:
    assert evaluate("{{ fromJson('[1]')[0] }}") == 1


def test_a_plugins_function_gives_plain_data() -> None:
    functions = FUNCTIONS.with_functions({"pair": lambda one, other=2: (one, {other})})
    assert evaluate("{{ pair(1) }}", {}, functions) == [1, [2]]
    assert evaluate("{{ pair(1, other=3) }}", {}, functions) == [1, [3]]


def test_a_plugins_function_is_held_to_its_own_arguments() -> None:
    functions = FUNCTIONS.with_functions({"pair": lambda one, other=2: [one, other]})
    with pytest.raises(ExpressionError, match='"pair" takes 1 to 2 arguments, got 0'):
        compile_template("{{ pair() }}", functions)


def test_a_plugins_function_takes_its_keyword_only_arguments() -> None:
    functions = FUNCTIONS.with_functions({"tell": lambda *, what="nothing": what})
    assert evaluate("{{ tell(what='this') }}", {}, functions) == "this"


def test_a_plugins_function_never_replaces_a_built_in_one() -> None:
    functions = FUNCTIONS.with_functions({"now": lambda: "never"})
    assert evaluate("{{ now() }}", {}, functions) == "2026-01-31T12:30:15.250Z"


def test_a_plugins_failure_is_an_error_of_the_expression() -> None:
    def broken() -> None:
        raise LookupError("the shelf is empty")

    functions = FUNCTIONS.with_functions({"broken": broken})
    with pytest.raises(ExpressionError, match='"broken" failed: LookupError: the shelf is empty') as caught:
        evaluate("{{ 1 + broken() }}", {}, functions)
    assert (caught.value.start, caught.value.end) == (7, 15)


def test_a_plugins_object_never_gets_into_an_expression() -> None:
    functions = FUNCTIONS.with_functions({"thing": object})
    with pytest.raises(ExpressionError, match="thing"):
        evaluate("{{ thing() }}", {}, functions)


# -- statements


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% if yes %}a{% endif %}", "a"),
        ("{% if no %}a{% endif %}", ""),
        ("{% if no %}a{% else %}b{% endif %}", "b"),
        ("{% if no %}a{% elif n == 7 %}b{% elif yes %}c{% else %}d{% endif %}", "b"),
        ("{% if items %}a{% endif %}{% if [] %}b{% endif %}", "a"),
        ("{% if no %}{{ absent }}{% endif %}", ""),
        ("{% for x in items %}{{ x }},{% endfor %}", "1,2,3,"),
        ("{% for x in name %}{{ x }}.{% endfor %}", "A.d.a."),
        ("{% for k in outputs %}{{ k }} {% endfor %}", "my-task fetch "),
        ("{% for k, v in byNumber %}{{ k }}={{ v }};{% endfor %}", "1=one;1.5=one and a half;"),
        ("{% for a, b in outputs.fetch.rows %}{{ a }}+{{ b }} {% endfor %}", "1+2 3+4 "),
        ("{% for x in [] %}a{% else %}none{% endfor %}", "none"),
        ("{% for x in items %}a{% else %}none{% endfor %}", "aaa"),
        ("{% for x in items if x > 1 %}{{ loop.index }}:{{ x }} {% endfor %}", "1:2 2:3 "),
        ("{% for x in items if x > 9 %}a{% else %}none{% endfor %}", "none"),
        (
            "{% for x in items %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }} {% endfor %}",
            "1032 2121 3210 ",
        ),
        (
            "{% for x in items %}{{ loop.first }} {{ loop.last }} {{ loop.length }};{% endfor %}",
            "true false 3;false false 3;false true 3;",
        ),
        ("{% for x in items %}{% for x in 'ab' %}{{ x }}{% endfor %}{{ x }}{% endfor %}", "ab1ab2ab3"),
        (
            "{% for x in 'ab' %}{% for y in 'cd' %}{{ loop.index }}{% endfor %}{{ loop.index }};{% endfor %}",
            "121;122;",
        ),
        ("{% for n in items %}{{ n }}{% endfor %}{{ n }}", "1237"),
        ("{% for o in orders %}{{ o.id }}{{ '' if loop.last else ',' }}{% endfor %}", "a,b"),
    ],
)
def test_statements_choose_and_repeat(source: str, text: str) -> None:
    assert evaluate(source) == text


def test_a_loops_name_is_gone_after_it() -> None:
    source = "{% for x in items %}{% endfor %}{{ x }}"
    assert isinstance(refusal(source), MissingMember)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% for x in n %}{% endfor %}", "a number cannot be looped over"),
        ("{% for x in nothing %}{% endfor %}", "null cannot be looped over"),
        ("{% for a, b in name %}{% endfor %}", "text cannot be looped over"),
        ("{% for a, b in items %}{% endfor %}", "each item must be a pair"),
    ],
)
def test_what_cannot_be_looped_over_is_refused(source: str, message: str) -> None:
    error = refusal(source)
    assert error.message == message
    assert place(source, error) in ("n", "nothing", "name", "items")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("a {{- n }} b", "a7 b"),
        ("a {{ n -}} b", "a 7b"),
        ("a\n  {{- n -}}\n b", "a7b"),
        ("a {%- if yes %} b {%- endif %} c", "a b c"),
        ("a {% if yes -%} b {% endif -%} c", "a b c"),
        ("a {%+ if yes +%} b {%+ endif +%} c", "a  b  c"),
        ("{% for x in items -%} {{ x }} {%- endfor %}", "123"),
        ("{{-1}}", 1),
    ],
)
def test_a_dash_inside_a_tag_trims_the_text_beside_it(source: str, text: object) -> None:
    assert evaluate(source) == text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% raw %}{{ n }}{% if %}{% endraw %}", "{{ n }}{% if %}"),
        ("{{ n }}{% raw %}{{{% endraw %}{{ n }}", "7{{7"),
        ("a {%- raw -%} {{ b }} {%- endraw -%} c", "a{{ b }}c"),
        ("a{% raw %}{% endraw %}", "a"),
    ],
)
def test_raw_text_is_left_alone(source: str, text: str) -> None:
    assert evaluate(source) == text


def test_empty_raw_text_is_empty_text() -> None:
    assert evaluate("{% raw %}{% endraw %}") == ""


def test_strip_raw_takes_the_marks_only() -> None:
    assert strip_raw("a {% raw %}{{ n }}{%- endraw -%} {{ n }}") == "a {{ n }} {{ n }}"


# -- what cannot be read


@pytest.mark.parametrize(
    ("source", "message", "where", "hint"),
    [
        ("{{ }}", "the expression is empty", " ", None),
        ("a {{ n", '"{{" is not closed', "{{", 'close it with "}}"'),
        ("a {% if", '"{%" is not closed', "{%", 'close it with "%}"'),
        ("{{ n n }}", 'expected an operator or "}}", got "n"', "n", None),
        ("{{ n = 1 }}", 'expected an operator or "}}", got "="', "=", 'compare with "=="'),
        ("{{ 1, 2 }}", 'expected an operator or "}}", got ","', ",", "put a list in brackets: [a, b]"),
        ("{{ 1 + }}", "expected a value, got the end", "}", None),
        ("{{ * 2 }}", 'expected a value, got "*"', "*", None),
        ("{{ and }}", 'expected a value, got "and"', "and", None),
        ("{{ (1 }}", 'expected ")", got the end', "}", None),
        ("{{ [1 2] }}", 'expected "," or "]", got "2"', "2", None),
        ("{{ {'a' 1} }}", 'expected ":", got "1"', "1", None),
        ("{{ n. }}", 'expected a name after ".", got the end', "}", None),
        ("{{ n | }}", 'expected a filter\'s name after "|", got the end', "}", None),
        ("{{ n is }}", 'expected a test\'s name after "is", got the end', "}", None),
        ("{{ now(timezone='UTC', 1) }}", "expected a named argument: they follow the others, got", "1", None),
        ("{{ n && n }}", 'unexpected character "&"', "&", 'write "and"'),
        ("{{ !n }}", 'unexpected character "!"', "!", 'write "not" or "!="'),
        ("{{ $n }}", 'unexpected character "$"', "$", None),
        ("{% if n %}a", "{% if %} is not closed", "{% if n %}", "close it with {% endif %}"),
        ("{% for x in n %}a", "{% for %} is not closed", "{% for x in n %}", "close it with {% endfor %}"),
        ("{% raw %}a", "{% raw %} is not closed", "{% raw %}", "close it with {% endraw %}"),
        ("a{% endif %}", "{% endif %} has no beginning", "{% endif %}", None),
        ("a{% else %}", "{% else %} has no beginning", "{% else %}", None),
        ("{% if n %}{% endfor %}", "{% endfor %} does not belong to {% if %}", "{% endfor %}", None),
        ("{% for x in n %}{% elif %}", "{% elif %} does not belong to {% for %}", "{% elif %}", None),
        ("{% fro x in n %}{% endfor %}", 'unknown statement "fro"', " fro x in n ", 'did you mean "for"?'),
        ("{% set x = 1 %}", 'unknown statement "set"', " set x = 1 ", None),
        ("{% include 'x' %}", 'unknown statement "include"', " include 'x' ", "there are if, for and raw"),
        ("{% %}", "the statement is empty", " ", "there are if, for and raw"),
        ("{% for in n %}{% endfor %}", 'expected a name for each value, got "in"', "in", None),
        ("{% for x of n %}{% endfor %}", 'expected "in", got "of"', "of", None),
        ("{% if n %}{% else x %}{% endif %}", 'expected "%}", got "x"', "x", None),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(
    source: str, message: str, where: str, hint: str | None
) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_template(source)
    error = caught.value
    assert error.message.startswith(message)
    assert place(source, error) == where
    if hint is not None:
        assert (error.hint or "").startswith(hint)


def test_a_place_counts_from_the_beginning_of_the_template() -> None:
    source = "first {{ n }}\nsecond {{ n }} and {{ name + 1 }}"
    assert place(source, refusal(source)) == "name + 1"


def test_every_node_knows_its_place() -> None:
    source = "a {{ outputs['my-task'].x + 1 }}"
    tree = parse_template(source)
    assert [source[part.start : part.end] for part in tree.parts] == ["a ", source[2:]]


def test_dotted_places_follow_one_another() -> None:
    assert evaluate("{{ rows.0.1 }}", {"rows": [[1, 2]]}) == 2


def test_endraw_without_a_beginning_is_named_as_such() -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_template("a {% endraw %}")
    assert caught.value.hint != 'did you mean "endraw"?'


# -- half characters


@pytest.mark.parametrize(
    "source", ["x{{ ['\\ud800'] }}", "{{ 'x' ~ ['\\ud800'] }}", "{{ outputs['\\ud800' ~ ''] }}"]
)
def test_half_a_character_is_refused_or_spelled(source: str) -> None:
    try:
        evaluate(source)
    except ExpressionError:
        pass


@pytest.mark.parametrize("source", ["{{ '\\ud800' }}", "x{{ '\\udfff' }}", "{{ ['\\ud800'] }}"])
def test_half_a_character_in_a_template_is_refused(source: str) -> None:
    with pytest.raises(ExpressionError, match="half a character"):
        evaluate(source)


def test_a_template_is_exported() -> None:
    assert isinstance(compile_template("{{ 1 }}", FUNCTIONS), Template)
