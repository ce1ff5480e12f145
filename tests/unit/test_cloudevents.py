"""CloudEvents as others send them, and as nobody should."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from hub.api.answers import Refusal
from hub.api.cloudevents import CloudEvent, read_events
from hub.errors import InvalidInput

ONE = {"Content-Type": "application/cloudevents+json; charset=utf-8"}
BATCH = {"Content-Type": "application/cloudevents-batch+json"}
LEAST = {"specversion": "1.0", "id": "A234-1234-1234", "source": "/mycontext", "type": "com.example.some"}
# the example of the JSON format's own specification, version 1.0.2
SPEC = {
    "specversion": "1.0",
    "type": "com.example.someevent",
    "source": "/mycontext",
    "subject": None,
    "id": "C234-1234-1234",
    "time": "2018-04-05T17:31:00Z",
    "comexampleextension1": "value",
    "comexampleothervalue": 5,
    "datacontenttype": "application/json",
    "data": {"appinfoA": "abc", "appinfoB": 123, "appinfoC": True},
}


def read(headers: dict[str, str], body: Any = b"") -> list[CloudEvent]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_events(CIMultiDict(headers), raw)


def one(headers: dict[str, str], body: Any = b"") -> CloudEvent:
    [event] = read(headers, body)
    return event


def headers(**attributes: str) -> dict[str, str]:
    return {f"ce-{name}": value for name, value in {**LEAST, **attributes}.items()}


def test_the_example_of_the_specification_is_read() -> None:
    event = one(ONE, SPEC)
    occurrence = event.occurrence
    assert (event.source, occurrence.type, occurrence.subject) == (
        "/mycontext",
        "com.example.someevent",
        None,
    )
    assert occurrence.time == datetime(2018, 4, 5, 17, 31, tzinfo=UTC)
    assert occurrence.data == SPEC["data"]
    assert event.ignored == ("comexampleextension1", "comexampleothervalue")
    assert (occurrence.scope, occurrence.delivery and occurrence.delivery.key) == (
        "cloudevents",
        "/mycontext C234-1234-1234",
    )


def test_the_same_event_is_the_same_in_either_mode() -> None:
    sent = {**LEAST, "subject": "a b", "data": {"x": 1, "y": [None]}}
    structured = one(ONE, sent).occurrence
    binary = one(
        {**headers(subject="a%20b"), "Content-Type": "application/json"}, b'{"y": [null],\n "x": 1}'
    ).occurrence
    [batched] = read(BATCH, [sent])
    encoded = {key: value for key, value in sent.items() if key != "data"}
    encoded |= {
        "data_base64": base64.b64encode(b'{"x":1,"y":[null]}').decode(),
        "datacontenttype": "text/json",
    }
    assert structured == binary == batched.occurrence == one(ONE, encoded).occurrence


@pytest.mark.parametrize(
    ("content_type", "raw", "data"),
    [
        ("application/json", b"[1]", {"value": [1]}),
        ("application/json", b"null", {"value": None}),
        ("application/json", b'{"a": 12345678901234567890123}', {"a": 12345678901234567890123}),
        ("application/vnd.x+json", b'{"a": 1}', {"a": 1}),
        ("application/json", b"", {}),
        (None, b'{"a": 1}', {"a": 1}),
        (None, b"plain", {"value": "plain"}),
        (None, b"\xff\x00", {"base64": "/wA="}),
        ("text/plain", "grüß".encode(), {"value": "grüß"}),
        ("text/plain; charset=latin-1", "grüß".encode("latin-1"), {"value": "grüß"}),
        ("application/xml", b"<a/>", {"value": "<a/>"}),
        ("application/octet-stream", b"{}", {"base64": "e30="}),
    ],
)
def test_data_is_what_its_content_type_says(content_type: str | None, raw: bytes, data: Any) -> None:
    given = {**headers(), **({"Content-Type": content_type} if content_type else {})}
    assert one(given, raw).occurrence.data == data


@pytest.mark.parametrize(
    ("sent", "data"), [(5, {"value": 5}), (None, {"value": None}), ("x", {"value": "x"}), ({}, {})]
)
def test_data_that_is_no_object_becomes_a_value(sent: Any, data: Any) -> None:
    assert one(ONE, {**LEAST, "data": sent}).occurrence.data == data
    assert one(ONE, LEAST).occurrence.data == {}


def test_headers_are_unquoted_and_percent_decoded() -> None:
    event = one(
        headers(
            subject='"Euro %E2%82%AC \\"x\\""',
            source="/caf%C3%A9",
            time="2020-01-01t00:00:00.123456789+02:00",
        )
    )
    assert (event.occurrence.subject, event.source) == ('Euro € "x"', "/café")
    assert event.occurrence.time == datetime(2019, 12, 31, 22, 0, 0, 123456, tzinfo=UTC)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"specversion": "0.3"}, 'specversion is "1.0" here, got "0.3"'),
        ({"specversion": 1.0}, "specversion is text, got a number"),
        ({"id": ""}, "id is empty"),
        ({"id": None}, '"id" is missing'),
        ({"type": 5}, "type is text, got a number"),
        ({"source": "a b"}, "source is a URI"),
        ({"source": "a\u0000"}, "source holds a control character"),
        ({"time": "yesterday"}, "time is a moment of RFC 3339"),
        ({"time": "2020-01-01"}, "time is a moment of RFC 3339"),
        ({"time": "2020-01-01T00:00:60Z"}, "time is a moment of RFC 3339"),
        ({"time": "0001-01-01T00:00:00+23:59"}, "time is a moment of RFC 3339"),
        ({"dataschema": "order.json"}, 'dataschema is a whole URI, got "order.json"'),
        ({"Sourse": "x"}, '"Sourse" cannot be an attribute'),
        ({"my-ext": "x"}, '"my-ext" cannot be an attribute'),
        ({"ext": {"a": 1}}, "ext is text, a 32-bit whole number, true or false, got an object"),
        ({"ext": 2**31}, "ext is text, a 32-bit whole number"),
        ({"ext": 1.5}, "ext is text, a 32-bit whole number"),
        ({"data": 1, "data_base64": "e30="}, "data or data_base64, not both"),
        ({"data_base64": "***"}, "data_base64 is not base64"),
        ({"data_base64": 5}, "data_base64 is not base64"),
        ({"data_base64": "e30", "datacontenttype": "application/json"}, "data_base64 is not base64"),
    ],
)
def test_what_is_no_cloudevent_is_refused_by_name(change: dict[str, Any], words: str) -> None:
    with pytest.raises(Refusal) as caught:
        read(ONE, {**LEAST, **change})
    assert caught.value.status == 400
    assert words in caught.value.message
    with pytest.raises(Refusal) as caught:
        read(BATCH, [LEAST, {**LEAST, **change}])
    assert caught.value.message.startswith("event 2: ")


@pytest.mark.parametrize(
    "schema", ["https://example.test/order.json", "urn:example:order", "HTTP://[::1]/x#y"]
)
def test_a_schemas_uri_is_taken(schema: str) -> None:
    assert one(ONE, {**LEAST, "dataschema": schema}).ignored == ("dataschema",)


def test_what_the_hub_does_not_take_is_invalid() -> None:
    for change in ({"type": "hub.flow.finished"}, {"type": "x" * 201}, {"id": "x" * 501}):
        with pytest.raises(InvalidInput):
            read(ONE, {**LEAST, **change})


@pytest.mark.parametrize(
    ("given", "body", "status"),
    [
        ({"Content-Type": "application/json"}, json.dumps(LEAST).encode(), 415),
        ({}, b"", 415),
        ({"Content-Type": "application/cloudevents+xml"}, b"<a/>", 415),
        ({"Content-Type": "application/cloudevents+json; charset=utf-16"}, b"{}", 415),
        (ONE, b"{", 400),
        (ONE, b"[]", 400),
        (BATCH, b"{}", 400),
        (BATCH, b"[5]", 400),
        (BATCH, json.dumps([LEAST] * 1001).encode(), 413),
        (headers(subject="%FF"), b"", 400),
        ({**headers(), "ce-datacontenttype": "text/plain"}, b"", 400),
        ({**headers(), "Content-Type": "application/json"}, b"{", 400),
        ({**headers(), "Content-Type": "text/plain; charset=utf-7"}, b"x", 415),
        ({"ce-id": "1"}, b"", 400),
    ],
)  # fmt: skip
def test_other_requests_are_refused(given: dict[str, str], body: bytes, status: int) -> None:
    with pytest.raises(Refusal) as caught:
        read(given, body)
    assert caught.value.status == status


def test_a_header_twice_is_refused() -> None:
    twice = CIMultiDict([*headers().items(), ("CE-ID", "other")])
    with pytest.raises(Refusal, match="more than once"):
        read_events(twice, b"")


def test_an_empty_batch_is_one() -> None:
    assert read(BATCH, []) == []


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_NAMES = (
    st.sampled_from([*LEAST, "time", "subject", "datacontenttype", "dataschema", "data", "data_base64"])
    | st.text()
)
_TYPES = (
    st.sampled_from([*ONE.values(), *BATCH.values(), "application/json", "text/plain; charset=x", ""])
    | st.text()
)


@given(
    changes=st.dictionaries(_NAMES, _VALUES, max_size=4),
    gone=st.sets(st.sampled_from([*LEAST]), max_size=1),
    batch=st.booleans(),
)
def test_no_json_event_is_answered_by_anything_but_an_event_or_a_refusal(
    changes: dict[str, Any], gone: set[str], batch: bool
) -> None:
    sent = {name: value for name, value in {**LEAST, **changes}.items() if name not in gone}
    body = json.dumps([sent] if batch else sent).encode("utf-8", "replace")
    _is_event_or_refusal(CIMultiDict(BATCH if batch else ONE), body)


@given(
    changes=st.dictionaries(_NAMES, st.text(), max_size=4),
    content_type=_TYPES,
    body=st.binary(max_size=40) | st.text().map(lambda text: text.encode("utf-8", "replace")),
)
def test_no_headers_are_answered_by_anything_but_an_event_or_a_refusal(
    changes: dict[str, str], content_type: str, body: bytes
) -> None:
    given = CIMultiDict(headers(**changes))
    given["Content-Type"] = content_type
    _is_event_or_refusal(given, body)


def _is_event_or_refusal(given: CIMultiDict[str], body: bytes) -> None:
    refusal: Refusal | InvalidInput | None = None
    events: list[CloudEvent] = []
    try:
        events = read_events(given, body)
    except (Refusal, InvalidInput) as error:
        refusal = error
    if isinstance(refusal, Refusal):
        assert 400 <= refusal.status < 500
        assert refusal.message.encode()
    for event in events:
        occurrence = event.occurrence
        assert event.source
        assert occurrence.type
        assert occurrence.delivery
        assert occurrence.time is None or occurrence.time.tzinfo is UTC
        json.dumps(occurrence.data).encode()
