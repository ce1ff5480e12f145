"""Webhooks as their callers meet them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.hub_process import Answer, HubProcess

_GITHUB_SECRET = b"it's a secret"
_HOOKS = "/api/v1/webhooks/acc"


def github(hub: HubProcess, body: dict[str, Any], delivery: str, secret: bytes = _GITHUB_SECRET) -> Answer:
    raw = json.dumps(body).encode()
    signature = hmac.new(secret, raw, hashlib.sha256).hexdigest()
    headers = {
        "Content-Type": "application/json",
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": delivery,
        "X-Hub-Signature-256": f"sha256={signature}",
    }
    return hub.call("POST", f"{_HOOKS}/push/gh", raw, headers)


def a_push(branch: str = "main") -> dict[str, Any]:
    return {"ref": f"refs/heads/{branch}", "pusher": "ada"}


def test_a_signed_delivery_starts_its_flow(hub: HubProcess) -> None:
    answer = github(hub, a_push(), str(uuid.uuid4()))
    assert answer.status == 202
    ended = hub.ended(answer.json["executionIds"][0])
    assert (ended["state"], ended["eventId"]) == ("SUCCESS", answer.json["eventId"])
    assert ended["taskRuns"][0]["outputs"] == {"value": "ada"}


def test_a_delivery_sent_five_times_at_once_starts_one_execution(hub: HubProcess) -> None:
    delivery = str(uuid.uuid4())
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: github(hub, a_push(), delivery), range(5)))
    assert {answer.status for answer in answers} == {202}
    assert len({tuple(answer.json["executionIds"]) for answer in answers}) == 1
    assert len({answer.json["eventId"] for answer in answers}) == 1
    assert sum("duplicate" not in answer.json for answer in answers) == 1


def test_a_bad_signature_is_refused_and_nothing_is_stored(hub: HubProcess) -> None:
    before = len(hub.all_of("/api/v1/events"))
    assert github(hub, a_push(), str(uuid.uuid4()), b"guess").status == 401
    assert hub.call("POST", f"{_HOOKS}/push/gh", a_push()).status == 401
    assert len(hub.all_of("/api/v1/events")) == before


def test_another_body_under_a_known_delivery_is_a_conflict(hub: HubProcess) -> None:
    delivery = str(uuid.uuid4())
    assert github(hub, a_push(), delivery).status == 202
    answer = github(hub, {**a_push(), "pusher": "eve"}, delivery)
    assert (answer.status, answer.json["code"]) == (409, "conflict")


def test_a_push_to_another_branch_is_stored_with_the_reason(hub: HubProcess) -> None:
    answer = github(hub, a_push("feature"), str(uuid.uuid4()))
    assert (answer.status, answer.json["executionIds"]) == (202, [])
    assert "when" in answer.json["reason"]
    event = hub.call("GET", f"/api/v1/events/{answer.json['eventId']}").json
    assert event["data"]["body"]["ref"] == "refs/heads/feature"
    assert event["verdicts"][0]["outcome"] == "refused"


def test_credentials_and_signatures_are_not_stored(hub: HubProcess) -> None:
    raw = json.dumps(a_push()).encode()
    signature = "sha256=" + hmac.new(_GITHUB_SECRET, raw, hashlib.sha256).hexdigest()
    headers = {"X-Hub-Signature-256": signature, "Authorization": "Basic abcdef", "Cookie": "session=1234567"}
    answer = hub.call("POST", f"{_HOOKS}/push/gh", raw, {"Content-Type": "application/json", **headers})
    event = hub.call("GET", f"/api/v1/events/{answer.json['eventId']}")
    for hidden in (signature, "abcdef", "1234567"):
        assert hidden not in event.raw.decode()


def shown(hub: HubProcess, answer: Answer) -> Any:
    assert answer.status == 202, answer.raw
    return hub.ended(answer.json["executionIds"][0])["taskRuns"][0]["outputs"]["value"]


def test_json_is_data_and_big_numbers_stay_exact(hub: HubProcess) -> None:
    big = 2**80 + 1
    assert shown(hub, hub.call("POST", f"{_HOOKS}/echo/open", {"n": big, "t": "é"}))["body"] == {
        "n": big,
        "t": "é",
    }


def test_a_form_is_a_mapping_with_single_values_as_text(hub: HubProcess) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    seen = shown(hub, hub.call("POST", f"{_HOOKS}/echo/open", b"a=1&b=x+y&b=z", headers))
    assert seen["body"] == {"a": "1", "b": ["x y", "z"]}


def test_text_is_text(hub: HubProcess) -> None:
    headers = {"Content-Type": "text/plain; charset=latin-1"}
    assert (
        shown(hub, hub.call("POST", f"{_HOOKS}/echo/open", "né".encode("latin-1"), headers))["body"] == "né"
    )


def test_a_get_has_parameters_and_no_body(hub: HubProcess) -> None:
    seen = shown(hub, hub.call("GET", f"{_HOOKS}/echo/open?a=1&b=2&b=3", headers={"X-Mine": "yes"}))
    assert (seen["method"], seen["body"], seen["parameters"]) == ("GET", None, {"a": "1", "b": ["2", "3"]})
    assert seen["headers"]["x-mine"] == "yes"


def test_what_is_not_json_is_refused_with_the_reason(hub: HubProcess) -> None:
    answer = hub.call("POST", f"{_HOOKS}/echo/open", b'{"a": ', {"Content-Type": "application/json"})
    assert answer.status == 422
    assert "not JSON" in answer.json["message"]


def test_a_body_over_the_limit_is_refused(hub: HubProcess) -> None:
    headers = {"Content-Type": "text/plain"}
    assert hub.call("POST", f"{_HOOKS}/echo/open", b"x" * (1024 * 1024), headers).status == 202
    assert hub.call("POST", f"{_HOOKS}/echo/open", b"x" * (1024 * 1024 + 1), headers).status == 413


def test_an_unknown_key_and_an_unknown_flow_are_not_found(hub: HubProcess) -> None:
    assert hub.call("POST", f"{_HOOKS}/echo/nope", {}).status == 404
    assert hub.call("POST", f"{_HOOKS}/nope/open", {}).status == 404


def test_a_method_that_is_not_taken_is_said(hub: HubProcess) -> None:
    answer = hub.call("GET", f"{_HOOKS}/hooks/posts")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


def test_over_its_own_limit_a_webhook_answers_429(hub: HubProcess) -> None:
    statuses = [hub.call("POST", f"{_HOOKS}/hooks/limited", {}) for _ in range(3)]
    assert [answer.status for answer in statuses] == [202, 202, 429]
    assert int(statuses[2].headers["retry-after"]) > 0


def signed(hub: HubProcess, body: Any) -> Answer:
    raw = json.dumps(body).encode()
    digest = hmac.new(b"plain-secret", raw, hashlib.sha512).digest()
    return hub.call("POST", f"{_HOOKS}/hooks/signed", raw, {
        "Content-Type": "application/json", "X-Sign": "v1=" + base64.b64encode(digest).decode(),
    })  # fmt: skip


def test_a_plain_hmac_is_checked_and_an_expression_names_the_delivery(hub: HubProcess) -> None:
    body = {"id": str(uuid.uuid4()), "n": 3}
    first, again = signed(hub, body), signed(hub, body)
    assert (first.status, again.status) == (202, 202)
    assert again.json == {**first.json, "duplicate": True}
    assert hub.call("POST", f"{_HOOKS}/hooks/signed", body).status == 401


def test_inputs_that_do_not_fit_are_kept_as_the_reason(hub: HubProcess) -> None:
    answer = signed(hub, {"id": str(uuid.uuid4()), "n": "many"})
    assert (answer.status, answer.json["executionIds"]) == (202, [])
    assert "whole number" in answer.json["reason"]


def test_a_delivery_without_its_id_is_refused(hub: HubProcess) -> None:
    assert signed(hub, {"n": 1}).status == 422


@pytest.mark.parametrize("path", ["/../flows", "/%2e%2e/flows", "//"])
def test_a_spelled_around_path_is_no_way_in(hub: HubProcess, path: str) -> None:
    assert hub.call("GET", f"{_HOOKS}/echo{path}").status in (404, 405)
