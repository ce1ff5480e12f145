"""A member is put into JSON that people write by hand; everything else stays byte for byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.scaffold import jsonc

_PATH = ("yaml.schemas", "./a.json")
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{}", '{\n  "yaml.schemas": {\n    "./a.json": [\n      "x"\n    ]\n  }\n}'),
        (
            '{\n    // mine\n    "a": 1, // one\n    "b": [1, 2,], /* two */\n}\n',
            '{\n    // mine\n    "a": 1, // one\n    "b": [1, 2,], /* two */\n'
            '    "yaml.schemas": {\n        "./a.json": [\n            "x"\n        ]\n    }\n}\n',
        ),
        (
            '{\n\t"a": 1 // no comma here\n}',
            '{\n\t"a": 1, // no comma here\n\t"yaml.schemas": {\n\t\t"./a.json": [\n\t\t\t"x"\n\t\t]\n\t}\n}',
        ),
        (
            '{\n  "yaml.schemas": {"https://x/y.json": "*.y"},\n  "z": "//no comment"\n}',
            '{\n  "yaml.schemas": {"https://x/y.json": "*.y",\n    "./a.json": [\n      "x"\n    ]\n  },\n'
            '  "z": "//no comment"\n}',
        ),
        (
            '{"yaml.schemas": {"./a.json": ["old"]}}',
            '{"yaml.schemas": {"./a.json": [\n    "x"\n  ]}}',
        ),
    ],
)
def test_a_member_is_added_where_it_belongs(before: str, after: str) -> None:
    assert jsonc.with_member(before, _PATH, ["x"]) == after


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1', 'line 1: expected "," or "}"'),
        ('{"a": 1}\n}', "line 2: something follows the end"),
        ("{a: 1}", "line 1: expected a name in quotes"),
        ("", "line 1: expected a value"),
        ('{"a": /* open', "line 1: expected a value"),
        ("[" * 200, "nested deeper than 100 levels"),
        ('{"yaml.schemas": []}', '"yaml.schemas" is not an object'),
        ("[]", '"the file" is not an object'),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(text: str, words: str) -> None:
    with pytest.raises(jsonc.NotJson, match="(?s)" + words.replace("{", r"\{").replace("[", r"\[")):
        jsonc.with_member(text, _PATH, ["x"])


@given(st.dictionaries(st.text(), _JSON, max_size=5), st.sampled_from([None, 1, 2, 4, "\t"]), _JSON)
def test_any_json_keeps_its_other_members(data: dict[str, Any], indent: Any, value: Any) -> None:
    data.pop("yaml.schemas", None)
    text = jsonc.with_member(json.dumps(data, indent=indent), _PATH, value)
    assert json.loads(text) == {**data, "yaml.schemas": {"./a.json": value}}
    assert jsonc.with_member(text, _PATH, value) == text
