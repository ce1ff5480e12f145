"""Forms with files, ``multipart/form-data`` (RFC 7578), out of a body that is wholly here.

Called by ``bodies``, which makes fields and files of the parts. Strict where senders agree, because what one
reader takes for a boundary and another for content is how files are smuggled past checks; whatever is wrong is
said in words. Time and memory grow with the body alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from hub.plugin import InvalidInput

MOST_PARTS = 1000
_LARGEST_HEAD = 8 * 1024
_LONGEST_FIELD_NAME = 200
_LONGEST_FILE_NAME = 150
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]\Z")
_PARAMETER = re.compile(r';[ \t]*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|[^;"]*)[ \t]*')
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_AS_THEY_ARE = frozenset({"", "7bit", "8bit", "binary"})


class BrokenForm(InvalidInput):
    """The body is not what its head says: no form with files, or half of one."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a form."""

    name: str
    content: bytes
    filename: str | None = None
    """As the sender wrote it; None where the part is no file."""
    content_type: str = ""
    charset: str | None = None


def parameters(header: str) -> tuple[str, dict[str, str]]:
    """A header's first word in lower case, and what it says of it. Raises ``BrokenForm``."""
    word, _, rest = header.partition(";")
    found: dict[str, str] = {}
    place, text = 0, f";{rest}".rstrip("; \t") if rest.strip("; \t") else ""
    while place < len(text):
        match = _PARAMETER.match(text, place)
        if match is None:
            raise BrokenForm(f"a header cannot be read: {_shown(header)}")
        name, value = match[1].lower(), match[2]
        if name in found:
            raise BrokenForm(f"a header says {name} twice: {_shown(header)}")
        is_quoted = value.startswith('"')
        found[name] = re.sub(r'\\(["\\])', r"\1", value[1:-1]) if is_quoted else value.strip()
        place = match.end()
    return word.strip().lower(), found


def read_parts(body: bytes, content_type: str) -> list[Part]:
    """The parts of a form. Raises ``BrokenForm``, ``InvalidInput`` where there are too many."""
    boundary = parameters(content_type)[1].get("boundary", "")
    if not _BOUNDARY.match(boundary):
        raise BrokenForm(
            "multipart/form-data without a boundary in its Content-Type: nothing can be told apart"
        )
    parts: list[Part] = []
    for head, content in _split(body, boundary.encode("ascii")):
        if len(parts) == MOST_PARTS:
            raise InvalidInput(f"the form has more than {MOST_PARTS} parts")
        parts.append(_part(head, content))
    return parts


def file_name(given: str) -> str:
    """A name that is safe to show and to write to: the last step of a path, without control characters."""
    last = re.split(r"[/\\]", _CONTROL.sub("", given))[-1].strip()
    if last in ("", ".", ".."):
        return "file"
    stem, dot, ending = last.rpartition(".")
    # what a program goes by is how it ends
    return last if len(last) <= _LONGEST_FILE_NAME else stem[: _LONGEST_FILE_NAME - 20] + dot + ending[-19:]


# -- what lies between the boundaries


def _split(body: bytes, boundary: bytes) -> Iterator[tuple[bytes, bytes]]:
    text = b"\r\n" + body  # the first boundary may stand at the very beginning
    delimiter = b"\r\n--" + boundary
    line = _next(text, delimiter, 0)
    if line is None:
        raise BrokenForm("the form does not hold the boundary that its Content-Type names")
    while not line.is_last:
        head_end = text.find(b"\r\n\r\n", line.end, line.end + _LARGEST_HEAD)
        following = _next(text, delimiter, line.end if head_end < 0 else head_end + 2)
        if following is None:
            raise BrokenForm("the form has no last boundary: it is cut off")
        if head_end < 0:
            raise BrokenForm(f"a part of the form has no end of its headers within {_LARGEST_HEAD} bytes")
        yield text[line.end + 2 : head_end], text[head_end + 4 : max(following.start, head_end + 4)]
        line = following


@dataclass(frozen=True, slots=True)
class _Line:
    """A line that is a boundary; ``end`` is where the line break after it begins."""

    start: int
    end: int
    is_last: bool


def _next(text: bytes, delimiter: bytes, start: int) -> _Line | None:
    """The next line that is the boundary and nothing else; one that only begins like it is content."""
    place = start
    while (found := text.find(delimiter, place)) >= 0:
        end = found + len(delimiter)
        if text.startswith(b"--", end):
            return _Line(found, end, True)
        while text[end : end + 1] in (b" ", b"\t"):
            end += 1
        if text.startswith(b"\r\n", end):
            return _Line(found, end, False)
        place = end
    return None


# -- what a part says of itself


def _part(head: bytes, content: bytes) -> Part:
    headers = _headers(head)
    word, said = parameters(headers.get("content-disposition", ""))
    name = _said(said, "name")
    if word != "form-data" or name is None:
        raise BrokenForm('a part of the form does not say: Content-Disposition: form-data; name="…"')
    if len(name) > _LONGEST_FIELD_NAME or _CONTROL.search(name):
        raise BrokenForm(
            f"a field's name is longer than {_LONGEST_FIELD_NAME} characters or holds control characters"
        )
    if (coding := headers.get("content-transfer-encoding", "").strip().lower()) not in _AS_THEY_ARE:
        raise BrokenForm(f'the field "{name}" comes as {_shown(coding)}: send it as it is')
    kind, more = parameters(headers.get("content-type", ""))
    return Part(name, content, _said(said, "filename"), kind, more.get("charset"))


def _headers(head: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    if not head:
        return found
    for line in re.sub(rb"\r\n[ \t]+", b" ", head).split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if not colon or not name.strip() or b"\r" in line or b"\n" in line:
            raise BrokenForm("a part of the form has a line among its headers that is none")
        lower = name.decode("latin-1").strip().lower()
        if lower in found:
            raise BrokenForm(f"a part of the form has two headers {_shown(lower)}")
        found[lower] = _text(value.strip())
    return found


def _said(parameters: Mapping[str, str], name: str) -> str | None:
    """A parameter, in its extended spelling (RFC 8187) where it has one."""
    extended = parameters.get(f"{name}*")
    if extended is None:
        return parameters.get(name)
    charset, quote, rest = extended.partition("'")
    _, second, value = rest.partition("'")
    if not quote or not second or charset.lower() not in ("utf-8", "iso-8859-1"):
        raise BrokenForm(f"{name}* is not utf-8''…: {_shown(extended)}")
    try:
        return unquote_to_bytes(value).decode(charset)
    except UnicodeDecodeError as error:
        raise BrokenForm(f"{name}* is not {charset}: {_shown(extended)}") from error


def _text(value: bytes) -> str:
    """Senders write names as UTF-8, old ones as Latin-1."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _shown(text: str) -> str:
    return ascii(text[:60])
