"""Requests that no honest sender sends, and honest ones that few send: an answer in one shape, never a 500."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
import socket
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub_process import Answer, HubProcess

_ECHO = b"/api/v1/webhooks/acc/echo/open"
_JSON = ("Content-Type", b"application/json")
_LONG = b"1234567890123456789012"


def seen(hub: HubProcess, answer: Answer) -> Any:
    """What the flow saw of a request that was taken."""
    assert answer.status == 202, answer.raw
    return hub.ended(answer.json["executionIds"][0])["taskRuns"][0]["outputs"]["value"]


def is_refusal(answer: Answer) -> bool:
    """Whether an answer is a refusal in the one shape, with the headers of every answer."""
    assert set(answer.json) == {"code", "message", "hint", "details"}, answer.raw
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    return 400 <= answer.status < 500


# -- bodies


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": "\\ud800", "n": ' + _LONG + b"}",
        b'{"price": 1e400, "id": 1234567890123456789}',
        b"[" * 201 + b"]" * 201,
        b"[" * 970 + b"]" * 970,
        b"[" * 900 + _LONG + b"]" * 900,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a": "\xff", "n": ' + _LONG + b"}",
    ],
)
def test_json_that_could_not_be_stored_is_refused(hub: HubProcess, body: bytes) -> None:
    answer = hub.request("POST", _ECHO, [_JSON], body)
    assert (answer.status, is_refusal(answer)) == (422, True)


def test_json_as_deep_as_may_be_goes_all_the_way(hub: HubProcess) -> None:
    deep = b"[" * 200 + b"]" * 200
    answer = hub.request("POST", _ECHO, [_JSON], deep)
    assert json.dumps(seen(hub, answer)["body"]).encode() == deep
    for path in (
        f"events/{answer.json['eventId']}",
        f"executions/{answer.json['executionIds'][0]}/taskRuns",
        "events",
        "executions",
    ):
        assert hub.call("GET", f"/api/v1/{path}").status == 200


@pytest.mark.parametrize(
    "charset", ["undefined", "utf-7", "unicode_escape", "raw_unicode_escape", "idna", "hex", "nope"]
)
def test_a_charset_that_is_none_is_refused(hub: HubProcess, charset: str) -> None:
    kind = ("Content-Type", b"text/plain; charset=" + charset.encode())
    answer = hub.request("POST", _ECHO, [kind], b"\\ud800 +2AA- xn--\xff")
    assert (answer.status, is_refusal(answer)) == (422, True)


def test_headers_that_are_not_utf8_are_read_as_latin_1(hub: HubProcess) -> None:
    headers = [("X-Odd", b"n\xe9"), ("X-Fine", "né".encode()), ("X-Raw", b"\xff\xfe")]
    found = seen(hub, hub.request("POST", _ECHO, headers))["headers"]
    assert (found["x-odd"], found["x-fine"], found["x-raw"]) == ("né", "né", "ÿþ")


@pytest.mark.parametrize(
    "target", [_ECHO + b"?a=\xff", b"/api/v1/webhooks/acc/echo/\xff", b"/api/v1/flows/\xc3\xa9/x"]
)
def test_an_address_of_raw_bytes_is_refused(hub: HubProcess, target: bytes) -> None:
    answer = hub.request("GET", target)
    assert (answer.status, is_refusal(answer)) == (400, True)


def test_an_address_of_odd_escapes_is_read(hub: HubProcess) -> None:
    assert hub.request("GET", b"/api/v1/webhooks/acc/echo/%ff").status == 404
    assert seen(hub, hub.request("GET", _ECHO + b"?a=%C3%A9&b=%ff"))["parameters"]["a"] == "é"


def test_a_number_beyond_a_double_is_no_float_input(hub: HubProcess) -> None:
    source = b"id: inp\nnamespace: acc\ninputs: [{id: f, type: FLOAT}]\ntriggers: [{id: h, type: webhook, key: k, inputs: {f: '{{ trigger.body.f }}'}}]\ntasks: [{id: t, type: return, value: 1}]\n"
    assert hub.call("PUT", "/api/v1/flows/acc/inp", source).status in (200, 201)
    huge = b'{"f": 1' + b"0" * 400 + b"}"
    answer = hub.request("POST", b"/api/v1/webhooks/acc/inp/k", [_JSON], huge)
    assert (answer.status, answer.json["executionIds"]) == (202, [])
    assert "expected a number" in answer.json["reason"]
    started = hub.request("POST", b"/api/v1/flows/acc/inp/executions", [_JSON], b'{"inputs": ' + huge + b"}")
    assert (started.status, is_refusal(started)) == (422, True)


# -- content encodings


def compressed(hub: HubProcess, coding: bytes, body: bytes) -> Answer:
    return hub.request("POST", _ECHO, [_JSON, ("Content-Encoding", coding)], body)


_BODY = b'{"a": "' + b"x" * 1000 + b'"}'
# without the moment, so that the cases have the same names each time
_gzip = partial(gzip.compress, mtime=0)
_BARE = zlib.compressobj(wbits=-15)


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        (b"gzip", _gzip(_BODY)),
        (b"X-GZip", _gzip(_BODY)),
        (b"deflate", zlib.compress(_BODY)),
        (b"deflate", _BARE.compress(_BODY) + _BARE.flush()),
        (b"identity", _BODY),
    ],
)
def test_a_compressed_body_is_read(hub: HubProcess, coding: bytes, body: bytes) -> None:
    assert seen(hub, compressed(hub, coding, body))["body"] == {"a": "x" * 1000}


@pytest.mark.parametrize(
    ("coding", "body", "status"),
    [
        (b"gzip", _BODY, 400),
        (b"gzip", _gzip(_BODY)[:-12], 400),
        (b"gzip", _gzip(_BODY)[:-1], 400),
        (b"gzip", _gzip(_BODY) + b"more", 400),
        (b"deflate", b"\x78\x9cno", 400),
        (b"br", _BODY, 415),
        (b"zstd", _BODY, 415),
        (b"gzip, gzip", _gzip(_gzip(_BODY)), 415),
        (b"gzip", _gzip(b'"' + b"x" * 1024 * 1024 + b'"'), 413),
        (b"gzip", _gzip(b"\0" * 300 * 1024 * 1024, compresslevel=1), 413),
    ],
    ids=range(10),
)
def test_a_body_that_is_not_what_its_coding_says_is_refused(
    hub: HubProcess, coding: bytes, body: bytes, status: int
) -> None:
    answer = compressed(hub, coding, body)
    assert (answer.status, is_refusal(answer)) == (status, True)


def test_a_signature_is_over_the_bytes_of_the_wire(hub: HubProcess) -> None:
    body = json.dumps({"ref": "refs/heads/main", "pusher": "ada"}).encode()

    def answer(signed: bytes) -> int:
        digest = hmac.new(b"it's a secret", signed, hashlib.sha256).hexdigest().encode()
        headers = [_JSON, ("Content-Encoding", b"gzip"), ("X-Hub-Signature-256", b"sha256=" + digest)]
        return hub.request("POST", b"/api/v1/webhooks/acc/push/gh", headers, wire).status

    wire = _gzip(body)
    assert answer(wire) == 202
    assert answer(body) == 401


# -- what is no request


@pytest.mark.parametrize(
    "raw",
    [
        b"FOO / HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: {host}\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: {host}\r\nX: " + b"a" * 9000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: {host}\r\nHost: other\r\n\r\n",
        b"POST " + _ECHO + b" HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"POST "
        + _ECHO
        + b" HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\nZZ\r\n",
        b"POST " + _ECHO + b" HTTP/1.1\r\nHost: {host}\r\nContent-Length: -1\r\n\r\n",
        b"POST " + _ECHO + b" HTTP/1.1\r\nHost: {host}\r\nExpect: nope\r\nContent-Length: 0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=range(10),
)
def test_what_is_no_request_is_refused_in_the_one_shape(hub: HubProcess, raw: bytes) -> None:
    answer = hub.send(raw.replace(b"{host}", b"127.0.0.1:%d" % hub.port))
    assert is_refusal(answer)
    assert b"xxxx" not in answer.raw
    assert b"aaaa" not in answer.raw


def test_a_sender_that_goes_away_in_the_middle_leaves_no_trace(hub: HubProcess) -> None:
    before = hub.log.read_text()
    with socket.create_connection(("127.0.0.1", hub.port)) as connection:
        head = b"POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 100\r\n\r\nabc"
        connection.sendall(head % (_ECHO, hub.port))
    assert hub.call("GET", "/health/live").status == 200
    assert hub.log.read_text() == before


def test_nothing_of_this_was_a_failure_of_the_hub(hub: HubProcess) -> None:
    assert "Traceback" not in hub.log.read_text()


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A hub that waits a second for requests."""
    data = tmp_path_factory.mktemp("hasty")
    (data / "hub.yaml").write_text("limits: {requestTimeout: 1s}\n")
    flows = Path(__file__).with_name("flows")
    env = {"HUB_SECRET_GITHUB": "x", "HUB_SECRET_PLAIN": "y"}
    with HubProcess(data, flows=flows, env=env) as running:
        yield running


def test_a_body_that_does_not_come_is_not_waited_for(hasty: HubProcess) -> None:
    head = b"POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 100\r\n\r\nabc"
    answer = hasty.send(head % (_ECHO, hasty.port))
    assert (answer.status, is_refusal(answer)) == (408, True)


@pytest.mark.parametrize("beginning", [b"", b"GET / HTTP/1.1\r\nHo"])
def test_a_head_that_does_not_come_is_not_waited_for(hasty: HubProcess, beginning: bytes) -> None:
    with socket.create_connection(("127.0.0.1", hasty.port), timeout=20) as connection:
        connection.sendall(beginning)
        assert connection.recv(100) == b""


def test_a_connection_that_is_idle_between_requests_stays_open(hasty: HubProcess) -> None:
    request = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % hasty.port
    with (
        socket.create_connection(("127.0.0.1", hasty.port), timeout=20) as idle,
        socket.create_connection(("127.0.0.1", hasty.port), timeout=20) as slow,
    ):
        idle.sendall(request)
        assert b"200 OK" in idle.recv(1000)
        # the other connection is ended for its slowness: time enough has passed for this one
        slow.sendall(request)
        assert b"200 OK" in slow.recv(1000)
        slow.sendall(request[:10])
        assert slow.recv(1000) == b""
        idle.sendall(request)
        assert b"200 OK" in idle.recv(1000)
