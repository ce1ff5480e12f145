"""CloudEvents 1.0 over HTTP: one event as JSON, a batch of them, or one whose attributes are headers.

The HTTP binding and the JSON format: https://github.com/cloudevents/spec/tree/v1.0.2/cloudevents. What is no
CloudEvent is refused with 400; one that this hub does not take, with 422. Extension attributes are read and
checked but not kept; they are named in the answer.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_to_bytes

from multidict import MultiMapping

from hub.api.answers import Refusal
from hub.api.headers import media_type
from hub.errors import InvalidInput, did_you_mean
from hub.model import jsontext
from hub.model.event import Delivery, Occurrence, check_type

SCOPE = "cloudevents"
"""What ``source`` and ``id`` together are unique in."""

_TEXT = {"type": "string", "minLength": 1}
_MAYBE = {"type": ["string", "null"], "minLength": 1}
_EVENT = {
    "type": "object",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {**_TEXT, "maxLength": 500},
        "source": {**_TEXT, "maxLength": 2000, "format": "uri-reference"},
        "type": {**_TEXT, "maxLength": 200},
        "subject": {**_MAYBE, "maxLength": 2000},
        "time": {**_MAYBE, "format": "date-time"},
        "datacontenttype": _MAYBE,
        "dataschema": {**_MAYBE, "format": "uri"},
        "data": {},
        "data_base64": {"type": ["string", "null"], "contentEncoding": "base64"},
    },
    "additionalProperties": {"type": ["string", "integer", "boolean", "null"]},
}
_ONE = "application/cloudevents+json"
_BATCH = "application/cloudevents-batch+json"
_PREFIX = "ce-"
_HOW = (
    f"send Content-Type: {_ONE} (or {_BATCH}) with the event as JSON, or its attributes as headers ce-id,"
    " ce-source, ce-type and ce-specversion: 1.0"
)
_MOST_EVENTS = 1000
BODIES = {_ONE: _EVENT, _BATCH: {"type": "array", "items": _EVENT, "maxItems": _MOST_EVENTS}}
"""Media types of events, each with its JSON Schema; headers say the rest of what a body of any other is."""
_REQUIRED = ("specversion", "id", "source", "type")
_OPTIONAL = ("datacontenttype", "dataschema", "subject", "time")
_LONGEST = {"id": 500, "source": 2000, "type": 200, "subject": 2000}
_NAME = re.compile(r"[a-z0-9]+", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_BLANK = re.compile(r"\s")
_URI = re.compile(r"[a-z][a-z0-9+.-]*:\S+", re.ASCII | re.IGNORECASE)
_TIME = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,12})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)  # RFC 3339, which is narrower than ISO 8601
_INTEGERS = range(-(2**31), 2**31)
_CHARSETS = frozenset({"utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin-1", "latin1"})


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """An event as its sender means it."""

    source: str
    occurrence: Occurrence
    ignored: tuple[str, ...] = ()
    """The attributes that are not kept."""


def read_events(headers: MultiMapping[str], body: bytes) -> list[CloudEvent]:
    """The events of a request. Raises ``Refusal`` and ``InvalidInput``."""
    kind, charset = media_type(headers.get("Content-Type"))
    if kind.startswith("application/cloudevents"):
        if kind not in (_ONE, _BATCH):
            raise Refusal(415, "unknown_format", f'events are not read as "{kind[:60]}" here', hint=_HOW)
        return _structured(_json(body, charset), is_batch=kind == _BATCH)
    if any(name.lower().startswith(_PREFIX) for name in headers):
        return [_of(_in_headers(headers), _data_of(body, headers.get("Content-Type")))]
    raise Refusal(415, "no_event", "this is no CloudEvent", hint=_HOW)


def _structured(found: Any, *, is_batch: bool) -> list[CloudEvent]:
    if not is_batch:
        return [_of_json(found)]
    if not isinstance(found, list):
        raise _refusal("a batch is a JSON array of events")
    if len(found) > _MOST_EVENTS:
        raise Refusal(413, "too_large", f"a batch holds at most {_MOST_EVENTS} events, got {len(found)}")
    events: list[CloudEvent] = []
    for number, one in enumerate(found, start=1):
        try:
            events.append(_of_json(one))
        except Refusal as error:
            raise _refusal(f"event {number}: {error.message}", hint=error.hint) from error
        except InvalidInput as error:
            raise InvalidInput(f"event {number}: {error.message}", hint=error.hint) from error
    return events


def _of_json(found: Any) -> CloudEvent:
    """An event in the JSON format; an attribute that is null is not there."""
    if not isinstance(found, dict):
        raise _refusal("an event is a JSON object")
    attributes = {
        name: value
        for name, value in found.items()
        if value is not None and name not in ("data", "data_base64")
    }
    encoded = found.get("data_base64")
    if encoded is None:
        return _of(attributes, _as_object(found["data"]) if "data" in found else {})
    if "data" in found:
        raise _refusal("an event has data or data_base64, not both")
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise _refusal("data_base64 is not base64") from None
    kind = attributes.get("datacontenttype")
    return _of(attributes, _data_of(raw, kind if isinstance(kind, str) else None))


def _in_headers(headers: MultiMapping[str]) -> dict[str, str]:
    """The attributes of an event whose data is the body."""
    found: dict[str, str] = {}
    for name, value in headers.items():
        attribute = name.lower().removeprefix(_PREFIX)
        if attribute == name.lower():
            continue
        if attribute in found:
            raise _refusal(f"the header {_PREFIX}{attribute} is given more than once")
        if attribute == "datacontenttype":
            raise _refusal("the header ce-datacontenttype has no meaning", hint="Content-Type says it")
        found[attribute] = _decoded(attribute, value)
    return found


def _decoded(attribute: str, value: str) -> str:
    """A header's text: double quotes around it taken off, then percent-decoded."""
    text = value.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = re.sub(r"\\(.)", r"\1", text[1:-1])
    try:
        return unquote_to_bytes(text.encode()).decode() if "%" in text else text.encode().decode()
    except UnicodeError:
        raise _refusal(f"the header {_PREFIX}{attribute} is not percent-encoded UTF-8") from None


def _of(attributes: Mapping[str, Any], data: Mapping[str, Any]) -> CloudEvent:
    """An event of attributes and data, both checked."""
    for name, value in attributes.items():
        _check(name, value)
    for name in _REQUIRED:
        if name not in attributes:
            raise _refusal(f'the attribute "{name}" is missing', hint=_HOW)
    if attributes["specversion"] != "1.0":
        raise _refusal(f'specversion is "1.0" here, got "{attributes["specversion"][:20]}"')
    source, id, type = (attributes[name] for name in ("source", "id", "type"))
    if _BLANK.search(source):
        raise _refusal("source is a URI or the path of one: it holds no blanks")
    schema = attributes.get("dataschema")
    if schema is not None and not _URI.fullmatch(schema):
        raise _refusal(
            f'dataschema is a whole URI, got "{schema[:60]}"', hint="write it with its scheme: https://…"
        )
    try:
        check_type(type)
    except ValueError as error:
        raise InvalidInput(str(error)) from None
    subject = attributes.get("subject")
    occurrence = Occurrence(
        data,
        type=type,
        subject=subject,
        time=_moment(attributes["time"]) if "time" in attributes else None,
        # no blank in the source, so the two cannot be taken for others
        delivery=Delivery(f"{source} {id}", _fingerprint(type, subject, data)),
        scope=SCOPE,
    )
    kept = (*_REQUIRED, "datacontenttype", "subject", "time")
    return CloudEvent(source, occurrence, tuple(sorted(name for name in attributes if name not in kept)))


def _check(name: str, value: Any) -> None:
    """Refuse an attribute that CloudEvents does not allow."""
    known = name in _REQUIRED or name in _OPTIONAL
    if not known and not _NAME.fullmatch(name):
        near = did_you_mean(name[:60].lower(), [*_REQUIRED, *_OPTIONAL, "data", "data_base64"])
        raise _refusal(
            f'"{name[:60]}" cannot be an attribute: its name has lower-case letters and digits only',
            hint=near,
        )
    if name == "data":
        raise _refusal('"data" is no attribute')
    if isinstance(value, str):
        if known and not value:
            raise _refusal(f"{name} is empty")
        if _CONTROL.search(value):
            raise _refusal(f"{name} holds a control character")
        if len(value) > _LONGEST.get(name, 10_000):
            raise InvalidInput(
                f"{name} has at most {_LONGEST.get(name, 10_000)} characters, got {len(value)}"
            )
    elif known or not (isinstance(value, bool) or (isinstance(value, int) and value in _INTEGERS)):
        wanted = "text" if known else "text, a 32-bit whole number, true or false"
        raise _refusal(f"{name} is {wanted}, got {_kind_of(value)}")


def _kind_of(value: Any) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return kinds.get(type(value), "something else")


def _moment(text: str) -> datetime:
    try:
        if not _TIME.fullmatch(text):
            raise ValueError(text)
        # what lies beyond year 1 or 9999 in UTC cannot be kept
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _refusal(
            f'time is a moment of RFC 3339 such as 2026-01-31T12:00:00Z, got "{text[:40]}"'
        ) from None


def _fingerprint(type: str, subject: str | None, data: Mapping[str, Any]) -> str:
    """What a repeat has in common with the first, however it is spelled on its way."""
    text = json.dumps([type, subject, data], sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


# data


def _as_object(data: Any) -> Mapping[str, Any]:
    return data if isinstance(data, dict) else {"value": data}


def _data_of(raw: bytes, content_type: str | None) -> Mapping[str, Any]:
    """What bytes are as data: JSON as it is, text as ``value``, all else as ``base64``; nothing for none."""
    if not raw:
        return {}
    kind, charset = media_type(content_type)
    if kind in ("application/json", "text/json") or kind.endswith("+json"):
        return _as_object(_json(raw, charset))
    if not kind:
        try:
            return _as_object(jsontext.loads_bounded(raw))
        except ValueError:
            charset = None  # then it is text or bytes, as it looks
    if not kind or kind.startswith("text/") or kind.endswith(("/xml", "+xml", "/x-www-form-urlencoded")):
        try:
            return {"value": raw.decode(_known(charset))}
        except UnicodeDecodeError:
            if kind:
                raise _refusal(f"the data is not {_known(charset)} text") from None
    return {"base64": base64.b64encode(raw).decode()}


def _json(raw: bytes, charset: str | None) -> Any:
    if _known(charset) not in ("utf-8", "utf8", "us-ascii", "ascii"):
        raise Refusal(415, "unknown_charset", "JSON is UTF-8")
    try:
        return jsontext.loads_bounded(raw)
    except ValueError as error:
        raise _refusal(f"it is not JSON: {error}") from error


def _known(charset: str | None) -> str:
    name = (charset or "utf-8").lower()
    if name not in _CHARSETS:
        raise Refusal(415, "unknown_charset", f'the charset "{name[:40]}" is not known here', hint="utf-8")
    return name


def _refusal(message: str, *, hint: str | None = None) -> Refusal:
    return Refusal(400, "invalid_event", message, hint=hint)
