"""CloudEvents over HTTP, replays and dead letters, against a real hub."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest

from tests.support.hub_process import Answer, HubProcess

_ONE = {"Content-Type": "application/cloudevents+json"}
_BATCH = {"Content-Type": "application/cloudevents-batch+json"}
_FLOWS = {
    "paid": "id: paid\nnamespace: ce\ntriggers: [{id: t, type: event.matched, event: 'shop.*',"
    ' when: "{{ trigger.total > 5 }}"}]\n'
    "tasks: [{id: a, type: return, value: '{{ trigger }}'}]\n",
    "strict": "id: strict\nnamespace: ce\ninputs: [{id: n, type: INT}]\ntriggers: [{id: t, type: event.matched,"
    " event: strict.event, inputs: {n: '{{ trigger.n }}'}}]\ntasks: [{id: a, type: log, message: x}]\n",
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    data = tmp_path_factory.mktemp("hub")
    (data / "flows").mkdir()
    for name, source in _FLOWS.items():
        (data / "flows" / f"{name}.hub.yaml").write_text(source)
    with HubProcess(data, flows=data / "flows") as running:
        yield running


def event(id: str, **more: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": id,
        "source": "/tests",
        "type": "shop.paid",
        "data": {"total": 7},
        **more,
    }


def send(hub: HubProcess, sent: Any) -> Answer:
    headers = _BATCH if isinstance(sent, list) else _ONE
    return hub.call("POST", "/api/v1/events", json.dumps(sent).encode(), headers)


def test_an_event_is_stored_starts_what_wants_it_and_is_known_afterwards(hub: HubProcess) -> None:
    sent = event("1", subject="order 7", time="2026-01-31T12:00:00Z", ext="x")
    answer = send(hub, sent)
    assert answer.status == 202
    [one] = answer.json["items"]
    [execution] = one["executionIds"]
    assert (one["duplicate"], one["reason"], one["ignored"]) == (None, None, ["ext"])
    assert hub.ended(execution)["taskRuns"][0]["outputs"] == {"value": {"total": 7}}
    stored = hub.call("GET", f"/api/v1/events/{one['eventId']}").json
    told = {name: stored[name] for name in ("source", "type", "subject", "time", "data", "namespace")}
    assert told == {
        "source": "/tests", "type": "shop.paid", "subject": "order 7", "time": "2026-01-31T12:00:00.000Z",
        "data": {"total": 7}, "namespace": None,
    }  # fmt: skip
    assert [(v["outcome"], v["executionId"], v["state"]) for v in stored["verdicts"]] == [
        ("started", execution, "SUCCESS")
    ]
    [again] = send(hub, sent).json["items"]
    assert (again["eventId"], again["executionIds"], again["duplicate"]) == (
        one["eventId"],
        [execution],
        True,
    )
    other = send(hub, {**sent, "data": {"total": 8}})
    assert (other.status, other.json["code"]) == (409, "conflict")
    assert one["eventId"] in other.json["message"]
    # another source is another event
    [third] = send(hub, {**sent, "source": "/others"}).json["items"]
    assert third["duplicate"] is None


def test_the_same_delivery_in_headers_is_known_too(hub: HubProcess) -> None:
    [one] = send(hub, event("2")).json["items"]
    headers = {"ce-id": "2", "ce-source": "/tests", "ce-type": "shop.paid", "ce-specversion": "1.0"}
    answer = hub.call("POST", "/api/v1/events", {"total": 7}, headers)
    assert answer.json["items"][0]["eventId"] == one["eventId"]
    assert answer.json["items"][0]["duplicate"] is True


def test_a_batch_is_answered_event_by_event(hub: HubProcess) -> None:
    send(hub, event("3"))
    batch = [event("3", data={"total": 99}), event("4", source="/a"), event("5", data={"total": 1}), event("4", source="/a"),
             event("6", type="nobody.wants", data=[1])]  # fmt: skip
    answer = send(hub, batch)
    assert answer.status == 202
    items = answer.json["items"]
    assert [one["conflict"] for one in items] == [True, None, None, None, None]
    assert [one["duplicate"] for one in items] == [None, None, None, True, None]
    assert items[1]["eventId"] == items[3]["eventId"]
    assert [len(one["executionIds"]) for one in items] == [0, 1, 0, 1, 0]
    assert "trigger.total = 1" in items[2]["reason"]
    assert items[4]["reason"] == "no trigger wants it"
    stored = hub.call("GET", f"/api/v1/events/{items[4]['eventId']}").json
    assert stored["data"] == {"value": [1]}
    assert send(hub, []).json == {"items": []}
    # nothing of a batch with a wrong event is stored
    refused = send(hub, [event("7"), {**event("8"), "id": ""}])
    assert (refused.status, refused.json["message"]) == (400, "event 2: id is empty")
    assert send(hub, event("7")).json["items"][0]["duplicate"] is None


def test_an_event_can_be_replayed_and_says_whose_replay_it_is(hub: HubProcess) -> None:
    [one] = send(hub, event("9")).json["items"]
    answer = hub.call("POST", f"/api/v1/events/{one['eventId']}/replay")
    assert answer.status == 202
    replayed = hub.call("GET", f"/api/v1/events/{answer.json['eventId']}").json
    assert (replayed["replayOf"], replayed["data"]) == (one["eventId"], {"total": 7})
    execution = hub.ended(answer.json["executionIds"][0])
    assert execution["replayOf"] == one["eventId"]
    assert hub.call("POST", "/api/v1/events/nope/replay").status == 404


def test_a_dead_letter_is_listed_settled_by_a_replay_or_dropped(hub: HubProcess) -> None:
    bad = [event(f"dead{n}", type="strict.event", data={"n": "no number"}) for n in range(2)]
    ids = [one["eventId"] for one in send(hub, bad).json["items"]]
    dead = hub.all_of("/api/v1/events?dead=true")
    assert {one["id"] for one in dead} == set(ids)
    assert "a whole number" in dead[0]["dead"]
    assert hub.call("DELETE", f"/api/v1/events/{ids[0]}/dead").status == 204
    assert hub.call("DELETE", f"/api/v1/events/{ids[0]}/dead").status == 404
    assert hub.call("POST", f"/api/v1/events/{ids[1]}/replay").status == 202
    left = hub.all_of("/api/v1/events?dead=true")
    # the replay failed in the same way: it is the dead letter now
    assert [(one["replayOf"], one["id"] in ids) for one in left] == [(ids[1], False)]
    assert hub.call("GET", f"/api/v1/events/{ids[0]}").json["dead"] is None


def test_random_requests_never_make_it_fail(hub: HubProcess) -> None:
    chance = random.Random(7)
    connection = HTTPConnection("127.0.0.1", hub.port, timeout=30)
    statuses: dict[int, int] = {}
    for number in range(1500):
        headers, body = _mutated(chance, number)
        connection.putrequest("POST", "/api/v1/events", skip_accept_encoding=True)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        raw = answer.read()
        statuses[answer.status] = statuses.get(answer.status, 0) + 1
        assert answer.status < 500, (headers, body, raw)
        if answer.status >= 400 and answer.status != 400:
            assert set(json.loads(raw)) == {"code", "message", "hint", "details"}
    connection.close()
    assert statuses[202] > 100
    assert statuses[400] > 100
    assert "request failed" not in hub.log.read_text()
    assert hub.call("GET", "/api/v1/events?limit=1000").status == 200


def _mutated(chance: random.Random, number: int) -> tuple[dict[str, bytes | str], bytes]:
    """A valid request in one of the three modes, and some damage to it."""
    one = event(f"fuzz{number}", data=chance.choice([{"total": number}, number, "text", None, [[]]]))
    mode = chance.randrange(3)
    headers: dict[str, bytes | str] = dict((_ONE, _BATCH, {"Content-Type": "application/json"})[mode])
    if mode == 2:
        headers |= {f"ce-{name}": str(value) for name, value in one.items() if name != "data"}
        body = json.dumps(one["data"]).encode()
    else:
        body = json.dumps([one] * chance.randrange(1, 4) if mode else one).encode()
    for _ in range(chance.randrange(3)):
        kind = chance.randrange(4)
        if kind == 0 and body:
            at = chance.randrange(len(body))
            body = body[:at] + bytes([chance.randrange(256)]) + body[at + chance.randrange(2) :]
        elif kind == 1:
            body = body.replace(b'"', chance.choice([b"", b"\\ud800", b"\x00", b'"x', b"1e999"]), 1)
        elif kind == 2:
            name = chance.choice([*headers, "ce-x", "ce-time", "Content-Encoding"])
            headers[name] = bytes(
                chance.choice(b'abc%"\\;= \t\xc3\xa9\xff/+') for _ in range(chance.randrange(12))
            )
        else:
            headers.pop(chance.choice([*headers, ""]), None)
    return headers, body
