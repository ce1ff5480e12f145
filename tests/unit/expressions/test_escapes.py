"""Nothing a template can say reaches Python, the disk, a process or the network, or takes more than 10 ms.

``escapes.txt`` holds the templates. An audit hook records what Python itself sees of them.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from hub.errors import ExpressionError, MissingMember
from hub.expressions import (
    ANY,
    NeedsAnswer,
    builtin_functions,
    check_template,
    compile_template,
    parse_template,
)

MOST_SECONDS = 0.010
MOST_WRITTEN = 16 * 1024 * 1024
PLAIN = (dict, list, str, int, float, bool, type(None))
PYTHONS_OWN = re.compile(
    r"<(class|function|module|method|built-in|bound|slot|property|generator|code|frame|cell)\b"
    r"|\bobject at 0x|Traceback|<\w+(\.\w+)+ "
)
FUNCTIONS = builtin_functions(lambda: datetime(2026, 1, 31, 12, tzinfo=UTC))
SCOPE: Mapping[str, Any] = {
    "inputs": {"day": "2026-01-31", "count": 3, "ratio": 0.5, "flag": True, "note": None},
    "vars": {"base": "https://example.test/api"},
    "flow": {"id": "orders", "namespace": "shop.intake", "revision": 4},
    "execution": {"id": "0197", "createdAt": "2026-01-31T12:00:00.000Z"},
    "labels": {"team": "sales"},
    "outputs": {
        "fetch": {"status": 200, "rows": [{"id": 1, "name": "Ada"}, {"id": 2, "name": "Bob"}], "json": {}},
        "my-task": {"lines": ["a", "b", "c"]},
    },
    "trigger": {
        "headers": {"x-github-event": "push", "content-type": "application/json"},
        "body": {
            "ref": "refs/heads/main",
            "name": "Ada",
            "items": [1, 2.5, "three", None, {"five": True}],
            "template": "{{ ''.__class__ }}{% for x in [1] %}{{ x }}{% endfor %}",
            "format": "{0.__class__}",
            "attribute": "__class__",
        },
    },
    "many": list(range(1000)),
}


@dataclass(frozen=True)
class Payload:
    """One hostile template; ``fails`` names the test it fails today, and ``why`` the bug."""

    section: str
    source: str
    fails: str = ""
    why: str = ""


def read_payloads() -> Iterator[Payload]:
    """The payloads of escapes.txt."""
    section = fails = why = ""
    for line in (Path(__file__).parent / "escapes.txt").read_text("utf-8").split("\n"):
        if line.startswith("# "):
            section = line[2:]
            known = re.fullmatch(r"known (B\d+) (reach|data|time): (.+)", section)
            fails, why = (known[2], f"{known[1]}: {known[3]}") if known else ("", "")
        elif line:
            yield Payload(section, expanded(line), fails, why)


def expanded(line: str) -> str:
    """The template a line of escapes.txt stands for."""

    def expand(match: re.Match[str]) -> str:
        text, times = match["text"], int(match["times"] or 1)
        if text == "NL":
            return "\n" * times
        if text.startswith("U+"):
            return chr(int(text[2:], 16)) * times
        return text * times

    return re.sub(r"<<(?P<text>U\+[0-9A-F]+|NL|.+?)(?:\*(?P<times>\d+))?>>", expand, line)


PAYLOADS = list(read_payloads())


def for_each_payload(test: str, strict: bool = True) -> pytest.MarkDecorator:
    """One case for each payload; those that are known to fail ``test`` are expected to."""
    return pytest.mark.parametrize(
        "payload",
        [
            pytest.param(
                payload,
                id=f"{number}-{payload.source[:40]}",
                marks=[pytest.mark.xfail(reason=payload.why, strict=strict)] if payload.fails == test else [],
            )
            for number, payload in enumerate(PAYLOADS, 1)
        ],
    )


class Watch:
    """What Python sees of this thread while it is on: every audit event, and every module looked for."""

    def __init__(self) -> None:
        self.thread = 0
        self.seen: list[str] = []

    def audit(self, event: str, arguments: tuple[object, ...]) -> None:
        # builtins.id is the parser's own book-keeping
        if self.thread and self.thread == threading.get_ident() and event != "builtins.id":
            self.seen.append(f"{event} {arguments[:1]!r}"[:200])

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """A finder of modules that finds none: ``importlib.import_module`` raises no audit event."""
        if self.thread and self.thread == threading.get_ident():
            self.seen.append(f"import {name}"[:200])

    @contextmanager
    def on(self) -> Iterator[None]:
        self.seen.clear()
        sys.meta_path.insert(0, self)
        self.thread = threading.get_ident()
        try:
            yield
        finally:
            self.thread = 0
            sys.meta_path.remove(self)


WATCH = Watch()
sys.addaudithook(WATCH.audit)  # cannot be taken back; it does nothing unless it is on


def outcome(source: str) -> object:
    """What a template gives or raises, read and compiled anew."""
    parse_template.cache_clear()
    compile_template.cache_clear()
    try:
        return compile_template(source, FUNCTIONS).evaluate(SCOPE)
    except Exception as error:
        return error


def check(source: str) -> None:
    """Look at a template as it is looked at when a flow is saved."""
    try:
        check_template(parse_template(source), dict.fromkeys(SCOPE, ANY), FUNCTIONS)
    except ExpressionError:
        pass


def values_in(value: object) -> Iterator[object]:
    """Every value as it would be written: what is shared comes each time."""
    todo = [iter([value])]
    while todo:
        for one in todo[-1]:
            yield one
            if isinstance(one, dict):
                todo.append(chain(one, one.values()))
                break
            if isinstance(one, list):
                todo.append(iter(one))
                break
        else:
            todo.pop()


def test_there_are_three_hundred_different_payloads() -> None:
    assert len({payload.source for payload in PAYLOADS}) == len(PAYLOADS)
    assert sum(not payload.fails for payload in PAYLOADS) >= 300


@for_each_payload("reach")
def test_a_payload_reaches_nothing_of_python(payload: Payload) -> None:
    with WATCH.on():
        outcome(payload.source)
        check(payload.source)
    assert WATCH.seen == []


@for_each_payload("data")
def test_a_payload_gives_plain_data_or_is_refused(payload: Payload) -> None:
    result = outcome(payload.source)
    if isinstance(result, ExpressionError):
        assert not PYTHONS_OWN.search(f"{result.message} {result.hint}")
        return
    if isinstance(result, NeedsAnswer):
        assert {type(one) for one in result.request.arguments} <= {str}
        return
    written = 0
    for value in values_in(result):
        assert type(value) in PLAIN
        if isinstance(value, str):
            assert not PYTHONS_OWN.search(value)
            value.encode()
            written += len(value)
        written += 2
        assert written < MOST_WRITTEN
    json.dumps(result, allow_nan=False)


COLD = """
import json, sys
from datetime import UTC, datetime
from hub.errors import ExpressionError
from hub.expressions import NeedsAnswer, builtin_functions, check_template, compile_template, parse_template

functions = builtin_functions(lambda: datetime(2026, 1, 31, 12, tzinfo=UTC))
sources, scope = json.load(sys.stdin)
seen, watched = [], []
sys.addaudithook(lambda event, arguments: watched and seen.append(f"{event} {arguments[:1]!r}"))
for source in sources:
    before = len(seen)
    watched.append(True)
    try:
        try:
            compile_template(source, functions).evaluate(scope)
        except (ExpressionError, NeedsAnswer) as error:
            str(error), getattr(error, "hint", None)
        try:
            check_template(parse_template(source), {}, functions)
        except ExpressionError:
            pass
    finally:
        watched.clear()
    seen[before:] = [f"{one} <- {source[:60]}" for one in seen[before:]]
words = ("open", "import", "os.", "socket", "exec", "compile", "subprocess", "ctypes", "marshal")
print(json.dumps([one for one in seen if one.startswith(words)]))
"""


def test_a_template_that_is_the_first_of_its_process_opens_and_imports_nothing() -> None:
    first = [
        "{{ nope }}", "{{ nope.x | uper }}", "{{ now('Europe/Paris') }}", "{{ now(many[0] ~ 'x') }}", "{{ now('Europe/Pari') }}",
        "{{ now() | date('EEEE MMMM', 'Asia/Tokyo') }}", "{{ inputs.day | date(timezone='America/' ~ 'New_York') }}",
        "{{ '\\N{BULLET}' }}", "{{ fromJson('1234567890123456789012') }}", "{{ trigger.body | toJson }}", "{{ 'İ' | lower }}",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", COLD],
        input=json.dumps([[*first, *(payload.source for payload in PAYLOADS)], dict(SCOPE)]),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout) == []


# not strict: a machine may be fast enough for some
@for_each_payload("time", strict=False)
def test_a_payload_ends_or_is_refused_within_ten_milliseconds(payload: Payload) -> None:
    seconds = []
    for _ in range(3):
        started = time.thread_time()
        outcome(payload.source)
        seconds.append(time.thread_time() - started)
    assert min(seconds) <= MOST_SECONDS


@pytest.mark.parametrize(
    "source", [one.source for one in PAYLOADS if one.section == "plain text to us"], ids=lambda one: one[:40]
)
def test_what_other_languages_would_run_is_plain_text(source: str) -> None:
    assert outcome(source) == source


@pytest.mark.parametrize(
    "source", [one.source for one in PAYLOADS if one.section == "attribute walks"], ids=lambda one: one[:40]
)
def test_an_attribute_walk_is_refused(source: str) -> None:
    assert isinstance(outcome(source), ExpressionError)


@pytest.mark.parametrize(
    "name", ["trigger.body.template", "trigger.body['template']", "[trigger.body.template][0]"]
)
def test_data_that_looks_like_a_template_is_not_evaluated(name: str) -> None:
    assert outcome(f"{{{{ {name} }}}}") == SCOPE["trigger"]["body"]["template"]


class TrappedText(str):
    leak = "leaked"


class TrappedList(list[Any]):
    leak = "leaked"


class TrappedMapping(dict[str, Any]):
    leak = "leaked"


class TrappedThing:
    leak = "leaked"

    def __getitem__(self, key: object) -> str:
        return "leaked"

    def __call__(self) -> str:
        return "leaked"


@pytest.mark.parametrize(
    "thing", [TrappedText("a"), TrappedList(), TrappedMapping(), TrappedThing()], ids=type
)
@pytest.mark.parametrize("source", ["{{ thing.leak }}", "{{ thing['leak'] }}", "{{ thing['le' ~ 'ak'] }}"])
def test_an_attribute_of_a_value_is_never_read(thing: object, source: str) -> None:
    with pytest.raises(MissingMember):
        compile_template(source, FUNCTIONS).evaluate({"thing": thing})


def test_the_watch_sees_what_reaches_python(tmp_path: Path) -> None:
    functions = FUNCTIONS.with_functions(
        {
            "read": lambda: (tmp_path / "none").exists() or open(tmp_path / "none"),
            "load": lambda: importlib.import_module("hub.no_such_module"),
            "code": lambda: eval("1 + 1"),
        }
    )
    for name, event in (("read", "open"), ("load", "import hub.no_such_module"), ("code", "compile")):
        with WATCH.on(), contextlib.suppress(ExpressionError):
            compile_template(f"{{{{ {name}() }}}}", functions).evaluate({})
        assert [one for one in WATCH.seen if one.startswith(event)]
