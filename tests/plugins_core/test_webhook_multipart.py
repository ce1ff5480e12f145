"""Forms with files: read as their senders meant them, and refused in words where they are broken."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.plugin import HttpRequest, InvalidInput
from plugins_core.webhook.bodies import Upload, digest, read_body, shown, uploads_in
from plugins_core.webhook.multipart import BrokenForm, file_name, parameters

TYPE = "multipart/form-data; boundary=XX"


def part(head: str, content: bytes = b"") -> bytes:
    return b"--XX\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n"


def field(name: str, content: bytes, more: str = "") -> bytes:
    return part(f'Content-Disposition: form-data; name="{name}"{more}', content)


def request(body: bytes, content_type: str = TYPE, charset: str = "utf-8") -> HttpRequest:
    kind = content_type.partition(";")[0].strip().lower()
    return HttpRequest("POST", {"content-type": content_type}, {}, body, content_type=kind, charset=charset)


def read(*parts: bytes, content_type: str = TYPE, end: bytes = b"--XX--\r\n") -> Any:
    return shown(read_body(request(b"".join(parts) + end, content_type)))


def test_fields_are_text_and_repeated_ones_a_list() -> None:
    found = read(field("a", b"1"), field("b", "é".encode()), field("b", b""), field("", b"x"))
    assert found == {"a": "1", "b": ["é", ""], "": "x"}


def test_a_file_is_described_and_its_content_is_whole() -> None:
    content = bytes(range(256)) + b"\r\n--X\r\n--XXnot\r\n\n--XX--"
    body = read_body(
        request(field("f", content, '; filename="a.bin"\r\nContent-Type: image/png') + b"--XX--")
    )
    [upload] = uploads_in(body)
    assert upload.content == content
    assert shown(body) == {
        "f": {
            "name": "a.bin",
            "contentType": "image/png",
            "size": len(content),
            "sha256": upload.sha256,
            "uri": None,
        }
    }


def test_a_part_that_says_json_is_data() -> None:
    assert read(field("a", b'{"n": 1}', "\r\nContent-Type: application/json")) == {"a": {"n": 1}}
    with pytest.raises(InvalidInput, match='field "a" is not JSON'):
        read(field("a", b"{", "\r\nContent-Type: application/json"))


def test_a_part_of_bytes_without_a_name_is_a_file_without_one() -> None:
    found = read(field("a", b"\xff\xfe", "\r\nContent-Type: application/pdf"))
    assert (found["a"]["name"], found["a"]["contentType"]) == (None, "application/pdf")


def test_an_empty_file_is_a_file_and_none_chosen_is_null() -> None:
    found = read(
        field("empty", b"", '; filename="e.txt"'),
        field("none", b"", '; filename=""\r\nContent-Type: application/octet-stream'),
    )
    assert (found["empty"]["size"], found["empty"]["name"], found["none"]) == (0, "e.txt", None)


def test_an_empty_part_without_a_line_for_its_content_is_empty() -> None:
    assert read(b'--XX\r\nContent-Disposition: form-data; name="a"\r\n\r\n', field("b", b"2")) == {
        "a": "",
        "b": "2",
    }


def test_what_stands_before_and_after_is_left_out() -> None:
    assert read(b"hello\r\n", field("a", b"1"), end=b"--XX--  and bye\r\n--XX\r\n") == {"a": "1"}


@pytest.mark.parametrize(
    ("parts", "kind", "found"),
    [
        ([field("a", b"\xe9", "\r\nContent-Type: text/plain; charset=iso-8859-1")], TYPE, {"a": "é"}),
        (
            [field("_charset_", b"windows-1252"), field("a", b"\x80")],
            TYPE,
            {"_charset_": "windows-1252", "a": "€"},
        ),
        (
            [field("a", "日".encode("shift_jis"), '\r\nContent-Type: text/plain; charset="Shift_JIS"')],
            TYPE,
            {"a": "日"},
        ),
    ],
)
def test_texts_are_read_in_the_charset_they_say(parts: list[bytes], kind: str, found: Any) -> None:
    assert read(*parts, content_type=kind) == found


@pytest.mark.parametrize("more", ["\r\nContent-Type: text/plain; charset=nope", ""])
def test_texts_in_no_known_charset_are_refused(more: str) -> None:
    with pytest.raises(InvalidInput, match=r"charset|not utf-8 text"):
        read(field("a", b"\xff\xff", more))


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("../../etc/passwd", "passwd"),
        ("..", "file"),
        ("", "file"),
        ("/", "file"),
        ("a/..", "file"),
        ("C:\\Users\\ada\\report.doc", "report.doc"),
        ("a\x00.sh\n", "a.sh"),
        ("\x00", "file"),
        ("x" * 5000 + ".csv", "x" * 130 + ".csv"),
        ("naïve 日.txt", "naïve 日.txt"),
    ],
)
def test_a_hostile_name_of_a_file_leads_nowhere(given: str, name: str) -> None:
    assert file_name(given) == name


def test_names_may_be_quoted_raw_or_extended() -> None:
    found = read(
        field("a", b"x", '; filename="say \\"hi\\" \\\\ é.txt"'),
        field("b", b"x", "; filename=plain.txt"),
        field("c", b"x", "; filename=\"old.txt\"; filename*=UTF-8''na%C3%AFve%20%E2%82%AC.txt"),
        field("d", b"x", '; filename="../../x.sh"'),
    )
    assert [found[name]["name"] for name in "abcd"] == ["é.txt", "plain.txt", "naïve €.txt", "x.sh"]


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (field("a", b"1") + b"--XX--", "multipart/form-data", "without a boundary"),
        (field("a", b"1") + b"--XX--", 'multipart/form-data; boundary="', "cannot be read"),
        (field("a", b"1") + b"--XX--", "multipart/form-data; boundary=" + "x" * 71, "without a boundary"),
        (field("a", b"1") + b"--XX--", "multipart/form-data; boundary=XX; boundary=YY", "boundary twice"),
        (field("a", b"1") + b"--XX--", "multipart/form-data; boundary=YY", "does not hold the boundary"),
        (b"not a form", TYPE, "does not hold the boundary"),
        (field("a", b"1"), TYPE, "cut off"),
        (b"--XX\r\n", TYPE, "cut off"),
        (b"--XX\r\n--XX--", TYPE, "no end of its headers"),
        (b"--XX\n" + b'Content-Disposition: form-data; name="a"\n\n1\n--XX--\n', TYPE, "does not hold the boundary"),
        (part("X: y", b"1") + b"--XX--", TYPE, "Content-Disposition"),
        (part("", b"1") + b"--XX--", TYPE, "Content-Disposition"),
        (part("Content-Disposition: attachment; name=a", b"1") + b"--XX--", TYPE, "Content-Disposition"),
        (part("Content-Disposition: form-data", b"1") + b"--XX--", TYPE, "Content-Disposition"),
        (part("nonsense", b"1") + b"--XX--", TYPE, "none"),
        (part('Content-Disposition: form-data; name="a', b"1") + b"--XX--", TYPE, "cannot be read"),
        (part("X: " + "y" * 9000, b"1") + b"--XX--", TYPE, "no end of its headers"),
        (field("a\x00b", b"1") + b"--XX--", TYPE, "control characters"),
        (field("a" * 201, b"1") + b"--XX--", TYPE, "longer than"),
        (field("a", b"1", "; filename*=nope") + b"--XX--", TYPE, "utf-8''"),
        (field("a", b"1", "; filename*=utf-8''%ff") + b"--XX--", TYPE, "is not utf-8"),
        (field("a", b"MQ==", "\r\nContent-Transfer-Encoding: base64") + b"--XX--", TYPE, "send it as it is"),
        (field("a", b"1", '\r\nContent-Disposition: form-data; name="b"') + b"--XX--", TYPE, "two headers"),
    ],
)  # fmt: skip
def test_a_broken_form_is_refused_in_words(body: bytes, kind: str, reason: str) -> None:
    with pytest.raises(BrokenForm, match=reason) as refused:
        read_body(request(body, kind))
    assert len(refused.value.message) < 250


def test_parts_and_files_are_bounded() -> None:
    assert len(read(*[field(f"f{n}", b"1") for n in range(1000)])) == 1000
    with pytest.raises(InvalidInput, match="more than 1000 parts"):
        read(*[field("a", b"1") for _ in range(1001)])
    assert len(read(*[field("a", b"1", "; filename=x") for _ in range(100)])["a"]) == 100
    with pytest.raises(InvalidInput, match="more than 100 files"):
        read(*[field("a", b"1", "; filename=x") for _ in range(101)])


def test_a_repeat_with_another_boundary_is_the_same_body() -> None:
    one = request(field("a", b"1", "; filename=x") + b"--XX--")
    other = request(one.body.replace(b"XX", b"YY"), "multipart/form-data; boundary=YY")
    changed = request(one.body.replace(b"1\r\n", b"2\r\n"))
    digests = [digest(each, read_body(each)) for each in (one, other, changed)]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("kind", "body", "is_file"),
    [
        ("image/png", b"\x89PNG", True),
        ("application/pdf", b"%PDF", True),
        ("application/octet-stream", b"abc", True),
        ("application/octet-stream", b'{"a": 1}', False),
        ("multipart/mixed", b"--a\r\n", True),
        ("application/xml", b"<a/>", False),
        ("application/soap+xml", b"<a/>", False),
        ("application/vnd.mine; charset=utf-8", b"abc", False),
        ("application/vnd.mine", b"abc", True),
        ("text/csv", b"a,b", False),
        ("", b"abc", False),
        ("", b"\xff\x00", True),
        ("no type", b"\xff", True),
    ],
)
def test_a_body_that_is_no_text_is_a_file(kind: str, body: bytes, is_file: bool) -> None:
    assert isinstance(read_body(request(body, kind)), Upload) is is_file


async def _written(form: aiohttp.FormData) -> tuple[bytes, str]:
    """A form as aiohttp's client writes it."""
    payload = form()
    written = io.BytesIO()

    class Writer:
        async def write(self, chunk: bytes) -> None:
            written.write(chunk)

    await payload.write(Writer())  # type: ignore[arg-type]
    return written.getvalue(), str(payload.headers["Content-Type"])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=20), st.binary(max_size=200)),
        min_size=1,
        max_size=8,
    )
)  # fmt: skip
async def test_what_another_library_writes_is_read_whole(files: list[tuple[str, bytes]]) -> None:
    form = aiohttp.FormData(quote_fields=False)
    for name, content in files:
        form.add_field(name, content, filename="x.bin", content_type="application/octet-stream")
    body, kind = await _written(form)
    found = [(upload.content, upload.name) for upload in uploads_in(read_body(request(body, kind)))]
    by_name: dict[str, list[bytes]] = {}
    for name, content in files:
        by_name.setdefault(name, []).append(content)
    assert found == [(content, "x.bin") for contents in by_name.values() for content in contents]


_GOOD = (
    field("a", b"1")
    + field("f", b"\x00\xff" * 5, "; filename*=utf-8''a%20b.txt\r\nContent-Type: text/plain; charset=latin1")
    + b"--XX--\r\n"
)


@settings(max_examples=3000, deadline=None)
@given(st.data())
def test_a_form_changed_anywhere_is_read_or_refused_and_never_fails(data: st.DataObject) -> None:
    body = bytearray(_GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body)))
        piece = data.draw(
            st.sampled_from([b"", b"\r\n", b"--XX", b'"', b";", b"\\", b"\x00", b"\xff", b":", b"=", b"'"])
        )
        body[place : place + data.draw(st.integers(0, 3))] = piece
    kind = data.draw(
        st.sampled_from([TYPE, "multipart/form-data; boundary=X", 'multipart/form-data; boundary="XX"'])
    )
    with suppress(InvalidInput):
        digest(request(bytes(body), kind), read_body(request(bytes(body), kind)))


@settings(max_examples=1000, deadline=None)
@given(st.text(st.sampled_from("form;=\"\\ \t'*a,"), max_size=40))
def test_any_header_is_read_or_refused(header: str) -> None:
    try:
        word, found = parameters(header)
    except BrokenForm:
        return
    assert ";" not in word
    assert all(name for name in found)


def test_a_form_of_nothing_but_boundaries_takes_no_longer_than_it_is() -> None:
    import time

    began = time.perf_counter()
    for body in (b"\r\n--XXa" * 150_000, b"--XX\r\n" * 150_000, b"\r\n--XX" + b" \t" * 500_000):
        with pytest.raises(InvalidInput):
            read_body(request(body))
    assert time.perf_counter() - began < 2
