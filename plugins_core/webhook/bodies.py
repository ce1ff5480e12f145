"""Bodies as expressions see them: JSON as data, forms as mappings, text as text, all else as files.

What is a file goes to the file store once the request is known to be wanted; in ``trigger.body`` stands what it
is and where it lies.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from hub.plugin import HttpRequest, InvalidInput, TaskFiles, jsontext
from plugins_core.webhook.multipart import BrokenForm, Part, file_name, parameters, read_parts

_FORM = "application/x-www-form-urlencoded"
_FORM_WITH_FILES = "multipart/form-data"
_BYTES = "application/octet-stream"
_MOST_FIELDS = 1000
_MOST_FILES = 100
_TYPE = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,90}\Z", re.ASCII)
_TEXTS = frozenset(
    f"application/{name}"
    for name in (
        "xml", "yaml", "x-yaml", "toml", "javascript", "ecmascript", "x-javascript", "ndjson", "x-ndjson",
        "jsonl", "json-seq", "graphql", "sql", "xml-dtd", "jwt", "jose", "x-sh",
    )
)  # fmt: skip
"""Types that are text and do not begin so; a type of another name is text where it says a charset."""
_BOM = b"\xef\xbb\xbf"

_CHARSETS = {
    **{name: name for name in ("utf-8", "utf-16", "utf-16le", "utf-16be", "utf-32", "us-ascii", "big5")},
    **{name: name for name in ("gb2312", "gbk", "gb18030", "shift_jis", "euc-jp", "euc-kr", "iso-2022-jp")},
    **{name: name for name in ("koi8-r", "koi8-u", "macintosh")},
    **{f"iso-8859-{part}": f"iso-8859-{part}" for part in range(1, 17) if part != 12},
    **{f"windows-{page}": f"cp{page}" for page in (874, *range(1250, 1259))},
    "utf8": "utf-8",
    "utf16": "utf-16",
    "ascii": "us-ascii",
    "latin1": "iso-8859-1",
    "latin-1": "iso-8859-1",
    "latin2": "iso-8859-2",
    "latin9": "iso-8859-15",
    "cp1252": "cp1252",
    "sjis": "shift_jis",
    "shift-jis": "shift_jis",
}
"""Charsets by the names senders give them. Python knows more, some of which are no charsets at all."""


@dataclass(slots=True)
class Upload:
    """A file that a request brings; ``uri`` says where it lies once it was kept."""

    content: bytes
    content_type: str
    name: str | None = None
    is_field: bool = False
    """It is a field of a form, which may have a name; else it is the body itself."""
    uri: str | None = None
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        self.sha256 = hashlib.sha256(self.content).hexdigest()

    async def keep(self, files: TaskFiles) -> None:
        """Store it, flushed. Raises ``StorageUnavailable``."""
        self.uri = await files.put(self.name or "body", self.content)

    @property
    def shown(self) -> dict[str, Any]:
        """What stands in its place in ``trigger.body``."""
        named = {"name": self.name} if self.is_field else {}
        return {
            **named,
            "contentType": self.content_type,
            "size": len(self.content),
            "sha256": self.sha256,
            "uri": self.uri,
        }


def uploads_in(body: Any) -> Iterator[Upload]:
    """The files of a body."""
    if isinstance(body, Upload):
        yield body
    elif isinstance(body, Form):
        for values in body.values():
            yield from (one for one in values if isinstance(one, Upload))


def shown(body: Any) -> Any:
    """What ``trigger.body`` holds of a body: each file as it is described."""
    if isinstance(body, Upload):
        return body.shown
    if isinstance(body, Form):
        several = {
            name: [one.shown if isinstance(one, Upload) else one for one in values]
            for name, values in body.items()
        }
        return {name: values[0] if len(values) == 1 else values for name, values in several.items()}
    return body


def digest(request: HttpRequest, body: Any) -> str:
    """What tells one body from another, however a repeat of it is written."""
    if isinstance(body, Form):
        # each attempt to send a form has a boundary of its own
        return hashlib.sha256(jsontext.dump_bytes(shown(body))).hexdigest()
    return hashlib.sha256(request.body).hexdigest()


def read_body(request: HttpRequest) -> Any:
    """What a request brings: data, text, an ``Upload``, a ``Form``; None for an empty body.

    Raises ``InvalidInput``, ``BrokenForm`` for a body that is not what its head says.
    """
    if not request.body:
        return None
    kind = request.content_type
    if kind == _FORM_WITH_FILES:
        return _form_with_files(request)
    if _is_json(kind):
        return _json(request.body, "the body")
    looks_like_json = request.body.lstrip()[:1] in (b"{", b"[")
    if kind in ("", _FORM, _BYTES) and looks_like_json:
        # curl -d says "form" whatever it sends; no form begins with a bracket
        try:
            return _json(request.body, "the body")
        except InvalidInput:
            pass
    if kind == _FORM:
        return _form(request)
    if _is_text(kind) or _says_charset(request) or (not kind and _is_utf_8(request.body)):
        return _text(request)
    return Upload(request.body, _type(kind))


def _is_json(kind: str) -> bool:
    return kind in ("application/json", "text/json") or kind.endswith("+json")


def _is_text(kind: str) -> bool:
    return kind.startswith("text/") or kind in _TEXTS or kind.endswith(("+xml", "+yaml"))


def _says_charset(request: HttpRequest) -> bool:
    try:
        return "charset" in parameters(request.headers.get("content-type", ""))[1]
    except BrokenForm:
        return False


def _is_utf_8(body: bytes) -> bool:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _json(body: bytes, what: str) -> Any:
    try:
        return jsontext.loads_bounded(body.removeprefix(_BOM))
    except ValueError as error:
        raise InvalidInput(f"{what} is not JSON: {error}") from error


def _text(request: HttpRequest) -> str:
    return _decoded(request.body, request.charset, "the body")


def _decoded(content: bytes, charset: str, what: str) -> str:
    known = _known_charset(charset)
    try:
        return content.decode(known)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{what} is not {known} text") from error


def _known_charset(charset: str) -> str:
    found = _CHARSETS.get(charset.strip().lower())
    if found is None:
        raise InvalidInput(f'the charset "{charset[:40]}" is not known here; send utf-8')
    return found


def _form(request: HttpRequest) -> dict[str, str | list[str]]:
    charset = _known_charset(request.charset)
    try:
        fields = parse_qs(
            _text(request),
            keep_blank_values=True,
            encoding=charset,
            errors="strict",
            max_num_fields=_MOST_FIELDS,
        )
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the form is not {charset} text") from error
    except ValueError as error:
        raise InvalidInput(f"the form has more than {_MOST_FIELDS} fields") from error
    return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}


# forms with files


class Form(dict[str, list[Any]]):
    """The values of a form with files by their names: texts, data of JSON parts, uploads, None for no file."""


def _form_with_files(request: HttpRequest) -> Form:
    parts = read_parts(request.body, request.headers.get("content-type", ""))
    charset = _charset_of_texts(parts, request)
    form = Form()
    files = 0
    for part in parts:
        value = _value(part, charset)
        files += isinstance(value, Upload)
        if files > _MOST_FILES:
            raise InvalidInput(f"the form has more than {_MOST_FILES} files")
        form.setdefault(part.name, []).append(value)
    return form


def _charset_of_texts(parts: list[Part], request: HttpRequest) -> str:
    """What texts are written in that do not say so: RFC 7578 has a field for that."""
    said = next((part.content for part in parts if part.name == "_charset_" and part.filename is None), None)
    return request.charset if said is None else said[:40].decode("latin-1")


def _value(part: Part, charset: str) -> Any:
    if part.filename is not None:
        # a browser sends a nameless empty file where none was chosen
        return _upload(part, file_name(part.filename)) if part.filename or part.content else None
    if _is_json(part.content_type):
        return _json(part.content, f'the field "{part.name[:60]}"') if part.content else None
    if part.content_type in ("", _FORM) or _is_text(part.content_type):
        return _decoded(part.content, part.charset or charset, f'the field "{part.name[:60]}"')
    return _upload(part, None)


def _upload(part: Part, name: str | None) -> Upload:
    return Upload(part.content, _type(part.content_type), name, is_field=True)


def _type(given: str) -> str:
    return given if _TYPE.match(given) else _BYTES
