"""Webhook triggers beside each other, broken and healed, and what of a request they keep."""

from __future__ import annotations

import hashlib
import hmac
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.api.headers import media_type
from hub.engine import triggers
from hub.errors import InvalidFlow
from tests.api.conftest import Asking, Serve


def flow(*hooks: str) -> str:
    listed = "".join(f"  - {{{hook}}}\n" for hook in hooks)
    return f"id: w\nnamespace: q\ntriggers:\n{listed}tasks: [{{id: t, type: return, value: 1}}]\n"


async def call(ask: Asking, key: str, method: str = "POST", body: Any = None) -> Any:
    return await ask(method, f"/api/v1/webhooks/q/w/{key}", body)


async def source_of(ask: Asking, answer: Any) -> str:
    """The trigger that took a request."""
    assert answer.status == 202, answer.raw
    return str((await ask("GET", f"/api/v1/events/{answer.json['eventId']}")).json["trigger"])


async def test_of_two_triggers_with_one_key_the_method_chooses(serving: Serve) -> None:
    async with serving() as ask:
        await ask.node.catalog.put(
            flow(
                "id: a, type: webhook, key: k, methods: [GET]",
                "id: b, type: webhook, key: k, methods: [POST]",
            )
        )
        assert await source_of(ask, await call(ask, "k", "GET")) == "a"
        assert await source_of(ask, await call(ask, "k", "POST")) == "b"
        assert (await call(ask, "k", "PUT")).status == 405


async def test_two_triggers_that_one_request_fits_are_refused_when_saved(serving: Serve) -> None:
    async with serving() as ask:
        with pytest.raises(InvalidFlow, match=r'5:\d+ +trigger "b" has the key of trigger "a"'):
            await ask.node.catalog.put(
                flow("id: a, type: webhook, key: k", "id: b, type: webhook, key: k, methods: [PUT]")
            )
        await ask.node.catalog.put(
            flow("id: a, type: webhook, key: k", "id: b, type: webhook, key: k, disabled: true")
        )


async def test_of_two_rendered_keys_that_are_the_same_the_second_is_shown_as_broken(serving: Serve) -> None:
    async with serving({"HUB_SECRET_A": "same-key", "HUB_SECRET_B": "same-key"}) as ask:
        hook = "id: %s, type: webhook, key: \"{{ secret('%s') }}\""
        await ask.node.catalog.put(flow(hook % ("a", "A"), hook % ("b", "B")))
        assert await source_of(ask, await call(ask, "same-key")) == "a"
        shown = (await ask("GET", "/api/v1/triggers")).json["items"]
        assert [one["state"] for one in shown] == ["running", "broken"]
        assert "has its key" in shown[1]["error"]


async def test_a_webhook_whose_secret_is_missing_heals_when_it_comes(
    serving: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triggers, "_BUILT_AGAIN_AFTER", 0.0)
    signed = "verify: {scheme: hmac, secret: \"{{ secret('LATE') }}\"}"
    async with serving({"HUB_SECRET_LATE_FILE": str(tmp_path / "late")}) as ask:
        await ask.node.catalog.put(
            flow(f"id: a, type: webhook, key: kk, {signed}", "id: b, type: webhook, key: fine")
        )
        answer = await call(ask, "kk")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert (await call(ask, "fine")).status == 202
        assert (await call(ask, "wrong")).status == 404
        (tmp_path / "late").write_text("it-is-here")
        assert (await call(ask, "kk")).status == 401
        assert (await ask("GET", "/api/v1/triggers")).json["items"][0]["state"] == "running"


async def test_a_webhook_whose_key_is_missing_may_be_any(serving: Serve) -> None:
    async with serving() as ask:
        await ask.node.catalog.put(flow("id: a, type: webhook, key: \"{{ secret('NONE') }}\""))
        assert (await call(ask, "any")).status == 503


@pytest.mark.parametrize("key", [".", "..", "a/b", '""'])
async def test_a_key_that_is_no_part_of_an_address_is_refused(serving: Serve, key: str) -> None:
    async with serving() as ask:
        with pytest.raises(InvalidFlow):
            await ask.node.catalog.put(flow(f"id: a, type: webhook, key: {key}"))


async def test_headers_that_say_credential_are_not_kept(serving: Serve) -> None:
    async with serving() as ask:
        await ask.node.catalog.put(flow("id: a, type: webhook, key: k"))
        hidden = (
            "X-Signature-Ed25519", "X-Gitlab-Token", "Api-Key", "X-ApiKey", "X-Client-Secret", "Cookie",
            "Set-Cookie2", "Authorization", "X-Forwarded-Authorization", "X-Csrf-Token", "X-Api_Key",
        )  # fmt: skip
        headers = dict.fromkeys(hidden, "hidden-value") | {"X-Event": "push", "X-Tok": "kept"}
        answer = await ask("POST", "/api/v1/webhooks/q/w/k", {}, headers)
        event = await ask("GET", f"/api/v1/events/{answer.json['eventId']}")
        assert b"hidden-value" not in event.raw
        kept = event.json["data"]["headers"]
        assert (kept["x-event"], kept["x-tok"]) == ("push", "kept")


_TYPES = (
    "text/plain; x*",
    "text/plain;\u00e9*",
    'a/b; charset="',
    ";;;*=''",
    "*",
    "a/b; charset*=utf-8''x",
    "a/b;charset*",
)


@pytest.mark.parametrize("kind", _TYPES)
async def test_a_content_type_that_is_none_is_no_failure(serving: Serve, kind: str) -> None:
    async with serving() as ask:
        await ask.node.catalog.put(flow("id: a, type: webhook, key: k"))
        answer = await ask("POST", "/api/v1/webhooks/q/w/k", b"some text", {"Content-Type": kind})
        assert answer.status in (202, 422), answer.raw
        source = flow("id: a, type: webhook, key: k").encode()
        answer = await ask("PUT", "/api/v1/flows/q/w", source, {"Content-Type": kind})
        assert answer.status in (200, 201), answer.raw


@settings(max_examples=2000, deadline=None)
@given(st.text(st.sampled_from("a/;=*'\" \t,()é\udcff?charset"), max_size=40))
def test_any_content_type_is_read(text: str) -> None:
    kind, charset = media_type(text)
    assert ";" not in kind
    assert charset is None or isinstance(charset, str)


async def test_a_rate_limit_says_a_time_when_it_is_over(serving: Serve) -> None:
    async with serving() as ask:
        await ask.node.catalog.put(flow("id: a, type: webhook, key: k, rateLimit: {limit: 1, per: PT1H}"))
        assert (await call(ask, "k")).status == 202
        refused = await call(ask, "k")
        hour = int(timedelta(hours=1).total_seconds())
        # rounded up: a sender that waits so long is not refused again
        assert (refused.status, int(refused.headers["retry-after"])) == (429, hour)


async def test_what_has_no_signature_takes_nobodys_place(serving: Serve) -> None:
    hook = "id: a, type: webhook, key: k, rateLimit: {limit: 1, per: PT1H}, verify: {scheme: hmac, secret: s3cr3t}"
    async with serving() as ask:
        await ask.node.catalog.put(flow(hook))
        assert [(await call(ask, "k", body={})).status for _ in range(3)] == [401] * 3
        signed = {"X-Signature": hmac.new(b"s3cr3t", b"{}", hashlib.sha256).hexdigest()}
        answers = [await ask("POST", "/api/v1/webhooks/q/w/k", b"{}", signed) for _ in range(2)]
        assert [answer.status for answer in answers] == [202, 429]


@pytest.mark.parametrize(
    "hook", ["rateLimit: {limit: 1, per: PT0S}", "dedup: {key: '{{ trigger.body }}', window: PT0S}"]
)
async def test_a_length_of_nothing_is_refused(serving: Serve, hook: str) -> None:
    async with serving() as ask:
        with pytest.raises(InvalidFlow, match="expected more than 0 seconds"):
            await ask.node.catalog.put(flow(f"id: a, type: webhook, key: k, {hook}"))


async def test_delivery_keys_are_told_apart_as_json_spells_them(serving: Serve) -> None:
    async with serving() as ask:
        await ask.node.catalog.put(
            flow("id: a, type: webhook, key: k, dedup: {key: '{{ trigger.body.id }}'}")
        )
        first = (await call(ask, "k", body={"id": True})).json
        again = await ask("POST", "/api/v1/webhooks/q/w/k", b'{"id":true}')
        assert again.json == {**first, "duplicate": True}
        other = await call(ask, "k", body={"id": "true"})
        assert other.status == 409
        assert "duplicate" not in (await call(ask, "k", body={"id": "True"})).json
