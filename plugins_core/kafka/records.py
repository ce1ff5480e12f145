"""Records: what expressions see of one, and what is kept of one that cannot be read.

Pure: bytes in, plain data out. A record that cannot be decoded raises ``Unreadable``; what is kept of it is raw,
so that it can be read again once its trigger, or the record itself, has been repaired.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, Protocol

from hub.plugin import iso, jsontext

Form = Literal["json", "string", "bytes"]
Headers = Sequence[tuple[str, bytes | None]]
_CLOUD = "ce_"
_LATEST = 253_402_300_799_000
"""Milliseconds: the end of the year 9999."""
_NO_KEY = b'{"key":null,"value":'
_STRUCTURED = "application/cloudevents+json"


class Unreadable(ValueError):
    """A record that cannot be decoded; the message says which part of it, and why."""


class Record(Protocol):
    """A record as the client gives it."""

    @property
    def topic(self) -> str: ...

    @property
    def partition(self) -> int: ...

    @property
    def offset(self) -> int: ...

    @property
    def timestamp(self) -> int: ...

    @property
    def key(self) -> bytes | None: ...

    @property
    def value(self) -> bytes | None: ...

    @property
    def headers(self) -> Headers: ...


@dataclass(frozen=True, slots=True)
class Reading:
    """How records are read."""

    key: Form
    value: Form
    most_bytes: int

    def lines(self, records: Sequence[Record]) -> tuple[bytes, list[tuple[Record, str]]]:
        """The data of records of one partition as lines of JSON, and those that cannot be read, with the reason.

        A value's own text is exact: where it is found to be JSON, and on one line, it is not made once more.
        """
        pieces: list[bytes] = []
        unreadable: list[tuple[Record, str]] = []
        is_json, most = self.value == "json", self.most_bytes
        values = [record.value for record in records]
        # looked for once in all of them: in each it takes longer than all the rest but the parsing
        whole = b"".join(filter(None, values)) if is_json else b""
        is_on_lines, has_lists = b"\n" in whole or b"\r" in whole, b"[" in whole
        rest = _rest_of_line(records[0].topic, records[0].partition) if records else b""
        for record, raw in zip(records, values, strict=True):
            key = record.key
            try:
                if (
                    not is_json
                    or record.headers
                    or raw is None
                    or (is_on_lines and (b"\n" in raw or b"\r" in raw))
                ):
                    pieces += (jsontext.dump_bytes(self.data(record)), b"\n")
                    continue
                if len(raw) + (0 if key is None else len(key)) > most:
                    self._check_size(size_of(record))
                check_json(raw, has_lists=has_lists)
                begin = _NO_KEY
                if key is not None:
                    begin = b'{"key":%b,"value":' % jsontext.dump_bytes(decoded(key, self.key, "key"))
                pieces += (begin, raw, rest % (record.offset, _moment_as_bytes(record.timestamp)))
            except Unreadable as error:
                unreadable.append((record, str(error)))
        return b"".join(pieces), unreadable

    def _check_size(self, size: int) -> None:
        if size > self.most_bytes:
            raise Unreadable(f"it has {size:,} bytes, more than maxRecordBytes allows ({self.most_bytes:,})")

    def data(self, record: Record) -> dict[str, Any]:
        """What expressions see as ``trigger``. Raises ``Unreadable``."""
        self._check_size(size_of(record))
        data = {
            "key": decoded(record.key, self.key, "key"),
            "value": decoded(record.value, self.value, "value"),
            "headers": readable(record.headers),
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "timestamp": moment(record.timestamp),
        }
        cloud = cloud_event(data)
        if cloud is not None:
            data["cloudEvent"] = cloud
        return data


def size_of(record: Record) -> int:
    """How many bytes a record brings."""
    key, value = record.key, record.value
    size = (0 if key is None else len(key)) + (0 if value is None else len(value))
    if record.headers:
        size += sum(len(name) + len(value or b"") for name, value in record.headers)
    return size


def time_of(timestamp: int) -> datetime:
    """A record's timestamp, which may be anything: one that is no moment is the nearest that is."""
    return datetime.fromtimestamp(min(max(timestamp, 0), _LATEST) / 1000, UTC)


@lru_cache(maxsize=1024)
def moment(timestamp: int) -> str:
    """A record's timestamp as text; many records have the same."""
    return iso(time_of(timestamp))


@lru_cache(maxsize=1024)
def _moment_as_bytes(timestamp: int) -> bytes:
    return moment(timestamp).encode()


@lru_cache(maxsize=1024)
def _rest_of_line(topic: str, partition: int) -> bytes:
    """What stands behind the value in the line of a record without headers, but for its offset and timestamp."""
    place = jsontext.dump_bytes({"topic": topic, "partition": partition})[1:-1].replace(b"%", b"%%")
    return b',"headers":{},' + place + b',"offset":%d,"timestamp":"%b"}\n'


def decoded(raw: bytes | None, form: Form, part: str) -> Any:
    """A key or a value. Raises ``Unreadable``."""
    if raw is None:
        return None
    if form == "bytes":
        return base64.b64encode(raw).decode()
    try:
        return jsontext.loads_bounded(raw) if form == "json" else raw.decode()
    except UnicodeDecodeError as error:
        raise Unreadable(f"its {part} is not UTF-8: {error.reason} at byte {error.start}") from error
    except ValueError as error:
        raise Unreadable(f"its {part} is not JSON: {error}") from error


def check_json(raw: bytes, *, has_lists: bool = True) -> None:
    """Raise ``Unreadable`` where ``decoded`` would, in less time, and in less again where no ``[`` is in it."""
    try:
        jsontext.check_bounded(raw, has_lists=has_lists)
    except ValueError:
        decoded(raw, "json", "value")


def readable(headers: Headers) -> dict[str, Any]:
    """Headers by name; one that comes several times is a list. Raises ``Unreadable``."""
    found: dict[str, Any] = {}
    for name, raw in headers:
        try:
            value = None if raw is None else raw.decode()
        except UnicodeDecodeError as error:
            raise Unreadable(f'its header "{name[:60]}" is not UTF-8: {error.reason}') from error
        if name not in found:
            found[name] = value
        elif isinstance(found[name], list):
            found[name].append(value)
        else:
            found[name] = [found[name], value]
    return found


def cloud_event(data: dict[str, Any]) -> dict[str, Any] | None:
    """The attributes of a CloudEvent in its Kafka binding; None for another record.

    In structured mode the record's value becomes the event's data.
    """
    headers = data["headers"]
    if not headers:
        return None
    if str(headers.get("content-type", "")).startswith(_STRUCTURED) and isinstance(data["value"], Mapping):
        attributes = dict(data["value"])
        data["value"] = attributes.pop("data", attributes.pop("data_base64", None))
        return attributes
    if f"{_CLOUD}specversion" not in headers:
        return None
    attributes = {name[len(_CLOUD) :]: value for name, value in headers.items() if name.startswith(_CLOUD)}
    if "content-type" in headers:
        attributes["datacontenttype"] = headers["content-type"]
    return attributes


# -- what cannot be read


def dead(record: Record, reason: str) -> dict[str, Any]:
    """What is kept of a record that cannot be read: all of it, raw."""
    return {
        "key": None,
        "value": None,
        "headers": {},
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": moment(record.timestamp),
        "error": reason,
        "raw": {
            "key": _kept(record.key),
            "value": _kept(record.value),
            "headers": [[name, _kept(value)] for name, value in record.headers],
        },
    }


def read_again(data: Mapping[str, Any], given: Mapping[str, Any], reading: Reading) -> dict[str, Any]:
    """The data of a dead letter as they are read now, but for what is given. Raises ``Unreadable``."""
    raw = data["raw"]
    found = {name: value for name, value in data.items() if name not in ("raw", "error")}
    readers: dict[str, Callable[[], Any]] = {
        "key": lambda: decoded(_back(raw["key"]), reading.key, "key"),
        "value": lambda: decoded(_back(raw["value"]), reading.value, "value"),
        "headers": lambda: readable([(name, _back(value)) for name, value in raw["headers"]]),
    }
    for name, read in readers.items():
        found[name] = given[name] if name in given else read()
    return {**found, **{name: value for name, value in given.items() if name not in readers}}


def _kept(raw: bytes | None) -> str | None:
    return None if raw is None else base64.b64encode(raw).decode()


def _back(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def fingerprint(record: Record) -> str:
    """What tells a record from another one that stands at its place in a topic of the same name."""
    digest = hashlib.sha256(str(record.timestamp).encode())
    for part in (record.key, record.value):
        digest.update(b"-" if part is None else b"%d:" % len(part))
        digest.update(part or b"")
    return digest.hexdigest()[:24]


def order_key(record: Record) -> str | None:
    """What executions of one key are put in line by; None for a record without a key."""
    if record.key is None:
        return None
    return f"{record.topic}:{hashlib.sha256(record.key).hexdigest()[:24]}"
