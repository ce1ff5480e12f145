"""Bodies of webhooks: what is read as what, and what is refused in words instead of failing."""

from __future__ import annotations

from typing import Any

import pytest

from hub.plugin import HttpRequest, InvalidInput
from plugins_core.webhook.bodies import read_body

_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"


def read(body: bytes, kind: str = "", charset: str = "utf-8") -> Any:
    return read_body(HttpRequest("POST", {}, {}, body, content_type=kind, charset=charset))


@pytest.mark.parametrize(
    ("body", "kind", "charset", "value"),
    [
        (b'\xef\xbb\xbf{"a": 1}', _JSON, "utf-8", {"a": 1}),
        (b'{"a": 1}', "text/json", "utf-8", {"a": 1}),
        (b'{"a": 1}', "application/vnd.x+json", "utf-8", {"a": 1}),
        (b"n\xe9", "text/plain", "ISO-8859-1", "né"),
        (b"n\xe9", "text/plain", "latin1", "né"),
        ("né".encode("utf-16"), "text/plain", "utf-16", "né"),
        ("日".encode("shift_jis"), "text/plain", "Shift_JIS", "日"),
        ("€".encode("cp1252"), "text/plain", "windows-1252", "€"),
        (b"a=%E9", _FORM, "iso-8859-1", {"a": "é"}),
        (b"a=%C3%A9&b=&b=x+y", _FORM, "utf-8", {"a": "é", "b": ["", "x y"]}),
        (b'{"a": 1}', _FORM, "utf-8", {"a": 1}),
    ],
)
def test_a_body_is_read_as_what_it_says_it_is(body: bytes, kind: str, charset: str, value: Any) -> None:
    assert read(body, kind, charset) == value


@pytest.mark.parametrize(
    ("body", "kind", "charset"),
    [
        (b"[" * 201 + b"]" * 201, _JSON, "utf-8"),
        (b"[" * 1000 + b"1234567890123456789012" + b"]" * 1000, _JSON, "utf-8"),
        (b'{"a": "\\ud800", "n": 1234567890123456789012}', _JSON, "utf-8"),
        (b'{"price": 1e400, "id": 1234567890123456789}', _JSON, "utf-8"),
        (b"a=%ff", _FORM, "utf-8"),
        (b"a=\xff", _FORM, "utf-8"),
        (b"&".join(b"a=1" for _ in range(1001)), _FORM, "utf-8"),
        *(
            (b"xn--\xff", "text/plain", charset)
            for charset in ("undefined", "idna", "punycode", "hex", "rot13", "nope", "mbcs", "")
        ),
        (b"\\ud800", "text/plain", "unicode_escape"),
        (b"\\ud800", "text/plain", "raw_unicode_escape"),
        (b"+2AA-", "text/plain", "utf-7"),
        (b"\x00\xd8", "text/plain", "utf-16le"),
        (b"\xff", "text/plain", "utf-8"),
        (b"a", "text/plain", "x" * 100_000),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_in_words(body: bytes, kind: str, charset: str) -> None:
    with pytest.raises(InvalidInput, match=r"the (body|form|charset)") as refused:
        read(body, kind, charset)
    assert len(refused.value.message) < 200
