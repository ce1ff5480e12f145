"""Signature schemes against vectors that others published or made, and against whatever a sender may write."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import stripe
from hypothesis import given, settings
from hypothesis import strategies as st
from standardwebhooks import Webhook as Oracle

from plugins_core.webhook.signatures import Verify

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
SCHEMES = ("github", "hmac", "stripe", "slack", "standard-webhooks")


def verify(
    scheme: str, secret: str | list[str] = "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQ=", **more: Any
) -> Verify:
    return Verify.model_validate({"scheme": scheme, "secret": secret, **more})


def lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def test_githubs_own_example_holds() -> None:
    # docs.github.com, "Testing the webhook payload validation"
    headers = {
        "x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    }
    found = verify("github", "It's a Secret to Everybody")
    assert found.holds(headers, b"Hello, World!", NOW)
    assert not found.holds(headers, b"Hello, World?", NOW)


def test_slacks_own_example_holds() -> None:
    # docs.slack.dev, "Verifying requests from Slack"
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
        b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
        b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
        b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    headers = {
        "x-slack-request-timestamp": "1531420618",
        "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    }
    found = verify("slack", "8f742231b10e8888abcd99yyyzzz85a5")
    at = datetime.fromtimestamp(1531420618, UTC)
    assert found.holds(headers, body, at)
    assert found.holds(headers, body, at + timedelta(seconds=299))
    assert not found.holds(headers, body, at + timedelta(seconds=301))
    assert not found.holds(headers, body, at - timedelta(seconds=301))


def test_the_standard_webhooks_example_holds() -> None:
    # the vector of the specification's own reference libraries
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    found = verify("standard-webhooks", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    at = datetime.fromtimestamp(1614265330, UTC)
    assert found.holds(headers, b'{"test": 2432232314}', at)
    assert found.holds(
        {**headers, "webhook-signature": "v1,xx v2,yy " + headers["webhook-signature"]},
        b'{"test": 2432232314}',
        at,
    )
    assert not found.holds(headers, b'{"test": 2432232315}', at)
    assert found.delivery_id(headers) == "msg_p5jXN8AQM9LWM0D4loKWxJek"


def test_what_the_standard_webhooks_library_signs_holds() -> None:
    secret = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
    body = '{"n": "ü"}'
    headers = {
        "webhook-id": "m1",
        "webhook-timestamp": str(int(NOW.timestamp())),
        "webhook-signature": Oracle(secret).sign("m1", NOW, body),
    }
    assert verify("standard-webhooks", secret).holds(headers, body.encode(), NOW)


def test_stripes_header_holds_with_any_of_its_signatures() -> None:
    # made as stripe's libraries make it: hex of HMAC-SHA256 over "TIME.BODY"
    import hashlib
    import hmac

    body, at = b'{"id": "evt_1"}', str(int(NOW.timestamp()))
    good = hmac.new(b"whsec_test", f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    found = verify("stripe", "whsec_test")
    for header in (f"t={at},v1={good}", f"t={at},v1={'0' * 64},v1={good},v0=x", f"v1={good}, t={at}"):
        assert found.holds({"stripe-signature": header}, body, NOW), header
    for header in (
        "",
        f"v1={good}",
        f"t={at}",
        f"t={at},v0={good}",
        f"t=+{at},v1={good}",
        f"t={at}0,v1={good}",
    ):
        assert not found.holds({"stripe-signature": header}, body, NOW), header
    assert not found.holds({"stripe-signature": f"t={at},v1={good}"}, body, NOW + timedelta(seconds=301))


@pytest.mark.parametrize("body", ['{"id": "evt_1"}', '{"n": "ü"}', ""])
def test_what_stripes_library_signs_holds_and_it_takes_what_is_signed_here(body: str) -> None:
    at = int(datetime.now(UTC).timestamp())
    header = stripe.WebhookSignature.generate_signature_header(body, "whsec_test", at)
    found, now = verify("stripe", "whsec_test"), datetime.fromtimestamp(at, UTC)
    assert found.holds({"stripe-signature": header}, body.encode(), now)
    ours = found.sign(body.encode(), now, "d")["Stripe-Signature"]
    assert stripe.WebhookSignature.verify_header(body, ours, "whsec_test", 300)
    assert not found.holds({"stripe-signature": header}, body.encode() + b" ", now)


def test_a_base64_signature_has_one_spelling() -> None:
    found = verify("standard-webhooks")
    headers = lower(found.sign(b"x", NOW, "d"))
    assert found.holds(headers, b"x", NOW)
    given = headers["webhook-signature"]
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    place = letters.index(given[-2])
    # the last letter before the padding has two bits that no byte needs
    same_bytes = given[:-2] + letters[place ^ 1] + "="
    assert base64.b64decode(same_bytes[3:]) == base64.b64decode(given[3:])
    assert not found.holds({**headers, "webhook-signature": same_bytes}, b"x", NOW)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_sample_is_what_its_sender_would_send(scheme: str) -> None:
    found = verify(scheme)
    headers = lower(found.sign(b'{"a": 1}', NOW, "d1"))
    assert found.holds(headers, b'{"a": 1}', NOW)
    assert not found.holds(headers, b'{"a": 2}', NOW)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_old_and_a_new_secret_both_hold_while_they_are_exchanged(scheme: str) -> None:
    both = verify(scheme, ["new-secret", "old-secret"])
    for secret in ("new-secret", "old-secret"):
        assert both.holds(lower(verify(scheme, secret).sign(b"x", NOW, "d")), b"x", NOW)
    assert not both.holds(lower(verify(scheme, "another").sign(b"x", NOW, "d")), b"x", NOW)


_NAMES = st.sampled_from(
    [
        "x-hub-signature-256",
        "x-signature",
        "stripe-signature",
        "x-slack-signature",
        "x-slack-request-timestamp",
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "svix-signature",
    ]
)
_VALUES = st.one_of(
    st.text(max_size=200),
    st.builds(lambda a, b: f"{a}={b}", st.sampled_from(["sha256", "v0", "v1", "t"]), st.text(max_size=80)),
    st.lists(
        st.sampled_from(["t=1777636800", "v1=00", "v1,AAAA", "t=", "=", ",", " ", "\udcff"]), max_size=6
    ).map("".join),
)


@settings(max_examples=2_000, deadline=None)
@given(st.dictionaries(_NAMES, _VALUES, max_size=5), st.binary(max_size=64), st.sampled_from(SCHEMES))
def test_whatever_a_sender_writes_is_refused_and_never_raises(
    headers: dict[str, str], body: bytes, scheme: str
) -> None:
    assert verify(scheme).holds(headers, body, NOW) is False


@settings(max_examples=2_000, deadline=None)
@given(st.data(), st.sampled_from(SCHEMES))
def test_a_good_request_changed_anywhere_is_refused(data: st.DataObject, scheme: str) -> None:
    found, body = verify(scheme), b'{"amount": 100, "to": "ada"}'
    headers = lower(found.sign(body, NOW, "delivery-1"))
    signed = [name for name in headers if name not in ("x-github-delivery", "x-github-event")]
    which = data.draw(st.sampled_from([*signed, "body"]))
    if which == "body":
        place = data.draw(st.integers(0, len(body) - 1))
        body = body[:place] + bytes([body[place] ^ data.draw(st.integers(1, 255))]) + body[place + 1 :]
    else:
        text = headers[which]
        place = data.draw(st.integers(0, len(text) - 1))
        letter = data.draw(st.characters(exclude_characters=text[place], categories=("Ll", "Nd", "Po")))
        if letter.lower() == text[place].lower():
            return
        headers[which] = text[:place] + letter + text[place + 1 :]
    assert not found.holds(headers, body, NOW)
