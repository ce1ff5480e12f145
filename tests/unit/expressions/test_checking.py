"""What is found in an expression before it runs: names, members, words of the grammar, types, and places."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from hub.expressions import (
    ANY,
    BOOLEAN,
    NULL,
    NUMBER,
    TEXT,
    Finding,
    ListShape,
    ObjectShape,
    Shape,
    builtin_functions,
    check_template,
    find_expressions_naming,
    merge,
    parse_template,
    shape_of_json_schema,
    shape_of_template,
)

FUNCTIONS = builtin_functions(lambda: datetime(2026, 1, 31, tzinfo=UTC))
NAMES: Mapping[str, Shape] = {
    "inputs": ObjectShape(
        {
            "day": TEXT,
            "count": NUMBER,
            "flag": BOOLEAN,
            "items": ListShape(ObjectShape({"name": TEXT, "qty": NUMBER})),
        },
        "input",
    ),
    "vars": ObjectShape({"base": TEXT}, "variable"),
    "outputs": ObjectShape(
        {
            "fetch": ObjectShape({"status": NUMBER, "json": ANY}, "output"),
            "my-task": ObjectShape({"x": NUMBER}),
        },
        "task",
        reasons={"later": 'task "later" has not run by then'},
    ),
    "trigger": ANY,
    "labels": ObjectShape({"team": TEXT}, "label", is_open=True),
    "settings": ObjectShape({"a": TEXT}, hint="declare it in hub.yaml"),
}


def findings(source: str) -> list[Finding]:
    return check_template(parse_template(source), NAMES, FUNCTIONS)


def finding(source: str) -> Finding:
    (one,) = findings(source)
    return one


def place(source: str, one: Finding) -> str:
    return source[one.start : one.end]


def shape(source: str) -> Shape:
    return shape_of_template(parse_template(source), NAMES, FUNCTIONS)


# -- names


@pytest.mark.parametrize(
    ("source", "name", "hint"),
    [
        ("{{ input.day }}", "input", 'did you mean "inputs"?'),
        ("{{ trigegr.body }}", "trigegr", 'did you mean "trigger"?'),
        ("{{ zzz }}", "zzz", "there are inputs, labels, outputs, settings, trigger, vars"),
        ("{{ now }}", "now", "call it: now(…)"),
        ("{{ x | upper }}", "x", None),
        ("{{ [1, {'a': x}] }}", "x", None),
        ("{{ {x: 1} }}", "x", None),
        ("{{ trigger[x] }}", "x", None),
        ("{{ trigger[1:x] }}", "x", None),
        ("{{ 1 < 2 < x }}", "x", None),
        ("{{ not x }}", "x", None),
        ("{{ -x }}", "x", None),
        ("{{ 1 ~ x }}", "x", None),
        ("{{ trigger or x }}", "x", None),
        ("{{ trigger ? 1 : x }}", "x", None),
        ("{{ 1 if x }}", "x", None),
        ("{{ now(x) }}", "x", None),
        ("{{ now(timezone=x) }}", "x", None),
        ("{{ trigger | join(x) }}", "x", None),
        ("{{ trigger is divisibleby(x) }}", "x", None),
        ("{% if x %}{% endif %}", "x", None),
        ("{% if 1 %}{% elif x %}{% endif %}", "x", None),
        ("{% if 1 %}{% else %}{{ x }}{% endif %}", "x", None),
        ("{% for y in x %}{% endfor %}", "x", None),
        ("{% for y in [1] %}{{ x }}{% endfor %}", "x", None),
        ("{% for y in [1] if x %}{% endfor %}", "x", None),
        ("{% for y in [1] %}{% else %}{{ x }}{% endfor %}", "x", None),
    ],
)
def test_an_unknown_name_is_found_wherever_it_stands(source: str, name: str, hint: str | None) -> None:
    one = finding(source)
    assert one.message == f'unknown name "{name}"'
    assert place(source, one) == name
    assert one.hint == hint or hint is None


def test_every_finding_is_told_in_the_order_of_the_text() -> None:
    source = "{{ a }} {% if b %}{{ c }}{% elif d %}{% else %}{{ e }}{% endif %}{{ g if f else h }}"
    assert [place(source, one) for one in findings(source)] == list("abcdegfh")


def test_a_loops_name_is_known_inside_it_only() -> None:
    source = "{% for x in [1] %}{{ x }}{% else %}{{ x }}{% endfor %}{{ x }}"
    assert [one.start for one in findings(source)] == [source.index("else") + 10, source.rindex("{{ x") + 3]


def test_loop_is_known_inside_a_loop_only() -> None:
    source = "{{ loop.index }}{% for x in [1] %}{{ loop.index }}{% endfor %}"
    assert [one.start for one in findings(source)] == [3]


def test_loops_members_are_known() -> None:
    one = finding("{% for x in [1] %}{{ loop.indx }}{% endfor %}")
    assert one.message == '"loop" has no member "indx"'
    assert one.hint == 'did you mean "index"?'


def test_text_and_raw_text_hold_no_names() -> None:
    assert findings("nope {% raw %}{{ nope }}{% endraw %} {# nope #}") == []


# -- members


@pytest.mark.parametrize(
    ("source", "message", "where", "hint"),
    [
        ("{{ inputs.dya }}", 'unknown input "dya"', "dya", 'did you mean "day"?'),
        ("{{ inputs['dya'] }}", 'unknown input "dya"', "'dya'", 'did you mean "day"?'),
        ("{{ inputs.zzz }}", 'unknown input "zzz"', "zzz", "there are count, day, flag, items"),
        ("{{ vars.zzz }}", 'unknown variable "zzz"', "zzz", "there is base"),
        ("{{ outputs.fecth.json }}", 'unknown task "fecth"', "fecth", 'did you mean "fetch"?'),
        (
            "{{ outputs.fetch.stauts }}",
            '"outputs.fetch" has no output "stauts"',
            "stauts",
            'did you mean "status"?',
        ),
        ("{{ outputs['my-task'].y }}", '"outputs[\'my-task\']" has no member "y"', "y", "there is x"),
        ("{{ outputs.later.x }}", 'task "later" has not run by then', "outputs.later", None),
        ("{{ outputs.latre.x }}", 'unknown task "latre"', "latre", 'did you mean "later"?'),
        ("{{ settings.zzz }}", '"settings" has no member "zzz"', "zzz", "declare it in hub.yaml"),
        ("{{ inputs.day.x }}", '"inputs.day" is text; it has no member "x"', "x", None),
        ("{{ inputs.count.x }}", '"inputs.count" is a number; it has no member "x"', "x", None),
        ("{{ inputs.flag.x }}", '"inputs.flag" is a boolean; it has no member "x"', "x", None),
        (
            "{{ inputs.items.name }}",
            '"inputs.items" is a list; it has no "name"',
            "name",
            "take one by its place, [0], or loop over it",
        ),
        (
            "{{ inputs.items[0].nmae }}",
            '"inputs.items[0]" has no member "nmae"',
            "nmae",
            'did you mean "name"?',
        ),
        ("{{ (inputs.day ?? 'x').y }}", 'it is text; it has no member "y"', "y", None),
        ("{{ (inputs.day | length).x }}", 'it is a number; it has no member "x"', "x", None),
        ("{{ now().x }}", 'it is text; it has no member "x"', "x", None),
        ("{{ inputs.day[1:3].x }}", 'it is text; it has no member "x"', "x", None),
    ],
)
def test_an_unknown_member_is_found_with_a_near_one(
    source: str, message: str, where: str, hint: str | None
) -> None:
    one = finding(source)
    assert (one.message, one.hint) == (message, hint)
    assert place(source, one) == where


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ 'text'.x }}", 'it is text; it has no member "x"'),
        ("{{ 1.x }}", 'it is a number; it has no member "x"'),
        ("{{ true.x }}", 'it is a boolean; it has no member "x"'),
        ("{{ null.x }}", 'it is null; it has no member "x"'),
        ("{{ 'text'.__class__ }}", 'it is text; it has no member "__class__"'),
        ("{{ [1].x }}", '"the value" is a list; it has no "x"'),
        ("{{ [1][0].x }}", 'it is a number; it has no member "x"'),
        ("{{ {'a': 1}.b }}", '"the value" has no member "b"'),
        ("{{ {'a': 1}.a.b }}", 'it is a number; it has no member "b"'),
        ("{{ {'a': {'b': 1}}['a']['c'] }}", '"the value" has no member "c"'),
    ],
)
def test_a_literals_members_are_known(source: str, message: str) -> None:
    assert finding(source).message == message


@pytest.mark.parametrize(
    "source",
    [
        "{{ inputs.day }}{{ inputs['count'] }}{{ inputs.items[0].name }}{{ inputs.items[-1].qty }}",
        "{{ inputs.day[0] }}{{ inputs.day[-1] }}",
        "{{ trigger.body.anything[0].at.all }}",
        "{{ labels.anything }}",
        "{{ outputs.fetch.json.a.b }}",
        "{{ outputs['my-task'].x }}",
        "{{ inputs[trigger.key] }}",
        "{% for x in inputs.items %}{{ x.name }}{{ loop.index }}{% endfor %}",
        "{% for k, v in inputs %}{{ k }}{{ v.x }}{% endfor %}",
        "{{ (inputs.items | first).name }}",
        "{{ ({'a': 1} if inputs.flag else {'b': 2}).b }}",
        "{{ ('a' if inputs.flag else 1).x }}",
        "{{ {'1': 2}[1] }}",
        "{{ inputs.count - 1 }}{{ inputs.count-1 }}",
        "{{ inputs.day * 2 }}",
        "{{ inputs.day ~ inputs.count }}",
        "{{ secret('A') }}{{ now('UTC') }}{{ fromJson('1').x }}",
    ],
)
def test_what_may_be_there_is_no_finding(source: str) -> None:
    assert findings(source) == []


def test_a_member_that_is_not_there_is_found_under_double_question_marks_too() -> None:
    assert finding("{{ inputs.dya ?? 'x' }}").message == 'unknown input "dya"'


def test_the_item_of_a_loop_has_the_lists_shape() -> None:
    source = "{% for x in inputs.items if x.zzz %}{{ x.nmae }}{% endfor %}"
    assert [one.hint for one in findings(source)] == ["there are name, qty", 'did you mean "name"?']


def test_long_lists_of_members_are_cut() -> None:
    names = {"many": ObjectShape({f"m{i}": TEXT for i in range(20)})}
    (one,) = check_template(parse_template("{{ many.zzz }}"), names, FUNCTIONS)
    assert one.hint == "there are m0, m1, m10, m11, m12, m13, m14, m15, …"


# -- dashes


@pytest.mark.parametrize(
    ("source", "where", "hint"),
    [
        ("{{ outputs.my-task.x }}", "outputs.my-task.x", "write outputs['my-task'].x"),
        ("{{ outputs.my-task }}", "outputs.my-task", "write outputs['my-task']"),
        ("{{ outputs.my-task.x + 1 }}", "outputs.my-task.x", "write outputs['my-task'].x"),
        ("{% if outputs.my-task.x == 1 %}{% endif %}", "outputs.my-task.x", "write outputs['my-task'].x"),
    ],
)
def test_a_dashed_name_is_shown_as_it_is_written(source: str, where: str, hint: str) -> None:
    one = finding(source)
    assert one.message == 'a dash is a minus here: unknown task "my"'
    assert one.hint == hint
    assert place(source, one) == where


def test_a_name_with_two_dashes_is_shown_as_it_is_written() -> None:
    names = {"outputs": ObjectShape({"a-b-c": ObjectShape({"x": NUMBER})}, "task")}
    (one,) = check_template(parse_template("{{ outputs.a-b-c.x }}"), names, FUNCTIONS)
    assert one.hint == "write outputs['a-b-c'].x"


def test_a_dashed_name_that_will_run_later_is_shown_as_it_is_written() -> None:
    names = {"outputs": ObjectShape({}, "task", reasons={"my-task": "later"})}
    (one,) = check_template(parse_template("{{ outputs.my-task.x }}"), names, FUNCTIONS)
    assert one.hint == "write outputs['my-task'].x"


def test_a_dash_with_blanks_is_a_minus() -> None:
    messages = [one.message for one in findings("{{ outputs.my - task.x }}")]
    assert messages == ['unknown task "my"', 'unknown name "task"']


def test_a_dash_that_spells_no_name_is_a_minus() -> None:
    messages = [one.message for one in findings("{{ outputs.zzz-inputs.day }}")]
    assert 'unknown task "zzz"' in messages


@pytest.mark.parametrize("rest", ["| toJson", "| default('x')", "is defined", "?? 'x'", "~ 'b'", "* 2"])
def test_a_dashed_name_is_shown_as_it_is_written_whatever_follows(rest: str) -> None:
    hints = [one.hint for one in findings(f"{{{{ outputs.my-task.x {rest} }}}}")]
    assert "write outputs['my-task'].x" in hints


# -- words of the grammar


@pytest.mark.parametrize(
    ("source", "message", "where", "hint"),
    [
        ("{{ nwo() }}", 'unknown function "nwo"', "nwo", 'did you mean "now"?'),
        ("{{ length(1) }}", 'unknown function "length"', "length", "it is a filter: value | length"),
        ("{{ lenght(1) }}", 'unknown function "lenght"', "lenght", "did you mean the filter: value | length"),
        ("{{ zzz() }}", 'unknown function "zzz"', "zzz", None),
        ("{{ range(9) }}", 'unknown function "range"', "range", None),
        ("{{ 'a' | uper }}", 'unknown filter "uper"', "uper", 'did you mean "upper"?'),
        ("{{ 'a' | tojson }}", 'unknown filter "tojson"', "tojson", 'did you mean "toJson"?'),
        ("{{ 'a' | attr('x') }}", 'unknown filter "attr"', "attr", None),
        ("{{ 1 is ood }}", 'unknown test "ood"', "ood", 'did you mean "odd"?'),
        ("{{ 1 is not ood }}", 'unknown test "ood"', "ood", 'did you mean "odd"?'),
    ],
)
def test_an_unknown_word_is_found_with_a_near_one(
    source: str, message: str, where: str, hint: str | None
) -> None:
    one = finding(source)
    assert (one.message, one.hint) == (message, hint)
    assert place(source, one) == where


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        ("{{ now(1, 2) }}", '"now" takes 0 to 1 arguments, got 2', None),
        ("{{ now(timezon='x') }}", '"now" has no argument "timezon"', 'did you mean "timezone"?'),
        ("{{ secret() }}", '"secret" takes 1 argument, got 0', None),
        ("{{ secret('a', 'b') }}", '"secret" takes 1 argument, got 2', None),
        ("{{ 'a' | upper(1) }}", '"upper" takes 0 arguments, got 1', None),
        ("{{ 'a' | replace }}", '"replace" takes 1 to 3 arguments, got 0', None),
        ("{{ 'a' | replace('a', 'b', 1, 2) }}", '"replace" takes 1 to 3 arguments, got 4', None),
        (
            "{{ 'a' | replace('a', 'b', conut=1) }}",
            '"replace" has no argument "conut"',
            'did you mean "count"?',
        ),
    ],
)
def test_arguments_that_do_not_fit_are_found(source: str, message: str, hint: str | None) -> None:
    one = finding(source)
    assert (one.message, one.hint) == (message, hint)
    assert place(source, one) == source[3:-3]


@pytest.mark.parametrize(
    "source",
    [
        "{{ 1 is odd(2) }}",
        "{{ 1 is divisibleby }}",
        "{{ trigger is defined(3) }}",
        "{{ 1 | date('yyyy', format='x') }}",
        "{{ 'abc' | replace(count=1) }}",
    ],
)
def test_arguments_that_never_fit_are_found(source: str) -> None:
    assert len(findings(source)) == 1


def test_a_plugins_function_is_known() -> None:
    functions = FUNCTIONS.with_functions({"upload": lambda one: one})
    assert check_template(parse_template("{{ upload('a') }}"), {}, functions) == []
    (one,) = check_template(parse_template("{{ uplod('a') }}"), {}, functions)
    assert one.hint == 'did you mean "upload"?'


# -- types


@pytest.mark.parametrize(
    ("source", "message", "where"),
    [
        ("{{ 'a' + 1 }}", '"+" cannot take text and a number', "'a' + 1"),
        ("{{ inputs.count + inputs.day }}", '"+" cannot take a number and text', "inputs.count + inputs.day"),
        ("{{ inputs.day + true }}", '"+" cannot take text and a boolean', "inputs.day + true"),
        ("{{ inputs.day - 1 }}", '"-" takes numbers, got text', "inputs.day"),
        ("{{ 1 / inputs.day }}", '"/" takes numbers, got text', "inputs.day"),
        ("{{ [1] // 1 }}", '"//" takes numbers, got a list or mapping', "[1]"),
        ("{{ inputs % 1 }}", '"%" takes numbers, got a list or mapping', "inputs"),
        ("{{ null ** 1 }}", '"**" takes numbers, got null', "null"),
        ("{{ -inputs.day }}", '"-" takes numbers, got text', "inputs.day"),
        ("{% for x in inputs.count %}{% endfor %}", "a number cannot be looped over", "inputs.count"),
        ("{% for x in true %}{% endfor %}", "a boolean cannot be looped over", "true"),
        ("{{ 'a' * 'b' }}", '"*" cannot take text and text', "'a' * 'b'"),
        ("{{ inputs.day * null }}", '"*" cannot take text and null', "inputs.day * null"),
        ("{{ {} + {} }}", '"+" cannot take a mapping and a mapping', "{} + {}"),
        ("{{ {} < {} }}", '"<" cannot compare a mapping with a mapping', "{} < {}"),
        ("{{ inputs.day < 5 }}", '"<" cannot compare text with a number', "inputs.day < 5"),
        (
            "{{ 1 < inputs.count <= inputs.day }}",
            '"<=" cannot compare a number with text',
            "inputs.count <= inputs.day",
        ),
        (
            "{{ 'a' in inputs.count }}",
            "a number contains nothing; expected a list, a mapping or text",
            "'a' in inputs.count",
        ),
        ("{{ inputs.day contains 1 }}", "text contains text, not a number", "inputs.day contains 1"),
        ("{{ inputs.count[:2] }}", "a number cannot be cut", "inputs.count[:2]"),
        ("{{ inputs.count | length }}", "length cannot take a number", "inputs.count | length"),
        ("{{ inputs.items | upper }}", "upper cannot take a list", "inputs.items | upper"),
        ("{{ inputs.day | keys }}", "keys cannot take text", "inputs.day | keys"),
        ("{{ inputs.day | abs }}", "abs cannot take text", "inputs.day | abs"),
        ("{{ null | fromJson }}", "fromJson cannot take null", "null | fromJson"),
    ],
)
def test_what_an_operator_cannot_take_is_found(source: str, message: str, where: str) -> None:
    one = finding(source)
    assert one.message == message
    assert place(source, one) == where


@pytest.mark.parametrize(
    ("source", "message", "where"),
    [
        ("{{ inputs.day | date('yyyy-b') }}", 'unknown letter "b" in the date format', "'yyyy-b'"),
        ("{{ inputs.day | date(format='b') }}", 'unknown letter "b" in the date format', "'b'"),
        ("{{ now() | date('yyyy', 'Europe/Pari') }}", 'unknown time zone "Europe/Pari"', "'Europe/Pari'"),
        ("{{ now() | date(timezone='Nowhere') }}", 'unknown time zone "Nowhere"', "'Nowhere'"),
        ("{{ now('Nowhere') }}", 'unknown time zone "Nowhere"', "'Nowhere'"),
    ],
)
def test_an_argument_that_is_written_out_is_looked_at(source: str, message: str, where: str) -> None:
    one = finding(source)
    assert one.message == message
    assert place(source, one) == where


def test_a_zone_has_a_near_name() -> None:
    assert finding("{{ now('Europe/Pari') }}").hint == 'did you mean "Europe/Paris"?'


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' * inputs.count }}{{ [1] * 2 }}{{ true + 1 }}{{ true < 2 }}{{ [1] < [2] }}",
        "{{ inputs.count | upper }}{{ true | trim }}{{ inputs | length }}{{ inputs.day | first }}{{ inputs | join(',') }}",
        "{{ trigger.x * trigger.y }}{{ trigger.x < 1 }}{{ trigger.x | keys }}{{ 1 in inputs.items }}{{ null == 1 }}",
    ],
)
def test_what_an_operator_or_a_filter_may_take_is_no_finding(source: str) -> None:
    assert findings(source) == []


@pytest.mark.parametrize(
    ("source", "known"),
    [
        ("{{ inputs.day }}", TEXT),
        ("{{ inputs.count + 1 }}", NUMBER),
        ("{{ inputs.count > 1 }}", BOOLEAN),
        ("{{ not inputs.day }}", BOOLEAN),
        ("{{ 1 is odd }}", BOOLEAN),
        ("{{ null }}", NULL),
        ("{{ inputs.day ~ 1 }}", TEXT),
        ("{{ inputs.day | split(',') }}", ListShape(TEXT)),
        ("{{ inputs.day | length }}", NUMBER),
        ("{{ now() }}", TEXT),
        ("{{ [1, 2] }}", ListShape(NUMBER)),
        ("{{ [1, 'a'] }}", ListShape(ANY)),
        ("{{ [] }}", ListShape(ANY)),
        ("{{ inputs.items | first }}", ObjectShape({"name": TEXT, "qty": NUMBER})),
        ("{{ inputs.day ?? 'x' }}", TEXT),
        ("{{ inputs.day ?? 1 }}", ANY),
        ("{{ inputs.count | default(1) }}", NUMBER),
        ("{{ trigger.x }}", ANY),
        ("a {{ inputs.count }}", TEXT),
        ("plain", TEXT),
    ],
)
def test_the_shape_of_a_template_is_what_is_known_of_its_value(source: str, known: Shape) -> None:
    assert shape(source) == known


def test_merged_mappings_have_the_members_of_both() -> None:
    one, other = ObjectShape({"a": TEXT, "b": TEXT}), ObjectShape({"b": NUMBER, "c": TEXT}, is_open=True)
    assert merge(one, other) == ObjectShape({"a": TEXT, "b": ANY, "c": TEXT}, is_open=True)


def test_merged_lists_have_merged_items() -> None:
    assert merge(ListShape(TEXT), ListShape(NUMBER)) == ListShape(ANY)


def test_a_json_schema_gives_its_shape() -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "size": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "either": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
            "tags": {"type": "array", "items": {"type": "string"}},
            "owner": {"$ref": "#/$defs/Person"},
            "headers": {"type": "object", "additionalProperties": {"type": "string"}},
        },
        "$defs": {"Person": {"type": "object", "properties": {"mail": {"type": "string"}}}},
    }
    assert shape_of_json_schema(schema) == ObjectShape(
        {
            "name": TEXT,
            "size": NUMBER,
            "either": ANY,
            "tags": ListShape(TEXT),
            "owner": ObjectShape({"mail": TEXT}, "field"),
            "headers": ObjectShape({}, "field", is_open=True),
        },
        "field",
    )


def test_a_schema_that_contains_itself_ends() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}
    known = shape_of_json_schema({"$ref": "#/$defs/Node", "$defs": {"Node": node}})
    assert isinstance(known, ObjectShape)


# -- one finding, in a time that fits the text


def test_what_default_is_given_is_found_once() -> None:
    assert len(findings("{{ trigger.x | default(nope) }}")) == 1


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("{{ " + "(" * 12 + "trigger" + ".m-inputs)" * 12 + " }}", id="dashes"),
        pytest.param("{{ " + "trigger | default(" * 12 + "1" + ")" * 12 + " }}", id="default"),
    ],
)
def test_a_check_takes_time_that_grows_with_the_text(source: str) -> None:
    tree = parse_template(source)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        check_template(tree, NAMES, FUNCTIONS)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.005


# -- scripts


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("print('{{ inputs.day }}')", ["{{ inputs.day }}"]),
        ("{{ 1 }} {{ vars.a | upper }}", ["{{ vars.a | upper }}"]),
        ("{{ secret('A') }}", ["{{ secret('A') }}"]),
        ("{{ other.inputs }}", []),
        ("{{ 'inputs' }}", []),
        ("docker ps --format '{{.Names}} {{ inputs }} {{json .}}'", ["{{ inputs }}"]),
        ("f'{{inputs'", []),
        ("{% raw %}{{ inputs.day }}{% endraw %}", []),
        ("{% raw %}a{% endraw %}{{ inputs.day }}", ["{{ inputs.day }}"]),
        ("no braces", []),
        ("}} {{ vars.a }} {{ inputs.b }}", ["{{ vars.a }}", "{{ inputs.b }}"]),
    ],
)
def test_expressions_of_ours_are_found_in_a_script(script: str, found: list[str]) -> None:
    hits = find_expressions_naming(script, frozenset({"inputs", "vars", "secret"}))
    assert [script[start:end] for start, end, _ in hits] == found


def test_the_name_that_was_found_is_told() -> None:
    assert find_expressions_naming("{{ 1 + vars.a }}", frozenset({"vars"})) == [(0, 16, "vars")]


def test_an_expression_with_two_closing_braces_inside_is_found_in_a_script() -> None:
    script = "{{ {'a': {'b': inputs.day}} }}"
    assert find_expressions_naming(script, frozenset({"inputs"})) == [(0, len(script), "inputs")]


def test_a_text_of_nothing_but_braces_is_looked_through_in_time() -> None:
    names = frozenset({"inputs", "vars"})
    for script in (
        "{{ inputs x }} " * 60_000,
        "{{ (" * 200_000,
        "{{" * 500_000,
        "{{ 'inputs" * 90_000,
        "{% raw %}{{ inputs.a }}{% endraw %}" * 25_000,
    ):
        started = time.thread_time()
        assert find_expressions_naming(script, names) == []
        assert time.thread_time() - started < 0.3
