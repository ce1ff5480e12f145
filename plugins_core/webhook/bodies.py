"""Bodies as expressions see them: JSON as data, forms as mappings, everything else as text."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from hub.plugin import HttpRequest, InvalidInput, jsontext

_FORM = "application/x-www-form-urlencoded"
_MOST_FIELDS = 1000
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


def read_body(request: HttpRequest) -> Any:
    """What ``trigger.body`` holds; null for an empty body. Raises ``InvalidInput``."""
    if not request.body:
        return None
    kind = request.content_type
    if kind == "application/json" or kind == "text/json" or kind.endswith("+json"):
        return _json(request.body)
    looks_like_json = request.body.lstrip()[:1] in (b"{", b"[")
    if kind in ("", _FORM, "application/octet-stream") and looks_like_json:
        # curl -d says "form" whatever it sends; no form begins with a bracket
        try:
            return _json(request.body)
        except InvalidInput:
            pass
    if kind == _FORM:
        return _form(request)
    return _text(request)


def _json(body: bytes) -> Any:
    try:
        return jsontext.loads_bounded(body.removeprefix(_BOM))
    except ValueError as error:
        raise InvalidInput(f"the body is not JSON: {error}") from error


def _text(request: HttpRequest) -> str:
    charset = _charset(request)
    try:
        return request.body.decode(charset)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the body is not {charset} text") from error


def _charset(request: HttpRequest) -> str:
    found = _CHARSETS.get(request.charset.strip().lower())
    if found is None:
        raise InvalidInput(f'the charset "{request.charset[:40]}" is not known here; send utf-8')
    return found


def _form(request: HttpRequest) -> dict[str, str | list[str]]:
    charset = _charset(request)
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
