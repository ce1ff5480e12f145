"""Signatures over a request's raw bytes, compared in constant time.

Each scheme is its vendor's own; the sources stand at the functions. Whatever a header holds, the answer is yes
or no: nothing a sender writes raises.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal

from pydantic import Field, field_validator

from hub.plugin import Duration, Model

_TOLERANCE = timedelta(minutes=5)
_MOST_SIGNATURES = 16
_LONGEST_TIMESTAMP = 12
_STANDARD_PREFIX = "whsec_"

Headers = Mapping[str, str]


class Verify(Model):
    """How a request proves where it comes from."""

    scheme: Literal["github", "hmac", "stripe", "slack", "standard-webhooks"] = Field(
        description="Whose signatures these are; `hmac` is a plain HMAC in a header of your choice."
    )
    secret: str | list[str] = Field(
        min_length=1, description="The shared secret; several while one takes the place of another."
    )
    tolerance: Duration = Field(
        _TOLERANCE, description="How old a signed timestamp may be, where the scheme has one."
    )
    header: str = Field("X-Signature", description="With `hmac`: the header that carries the signature.")
    algorithm: Literal["sha1", "sha256", "sha512"] = Field("sha256", description="With `hmac`: the hash.")
    encoding: Literal["hex", "base64"] = Field(
        "hex", description="With `hmac`: how the signature is written."
    )
    prefix: str = Field("", description="With `hmac`: what stands before it, `sha256=`.")

    @field_validator("secret")
    @classmethod
    def _is_not_empty(cls, value: str | list[str]) -> str | list[str]:
        if isinstance(value, list) and not all(value):
            raise ValueError("an empty secret signs nothing")
        return value

    @property
    def secrets(self) -> list[bytes]:
        given = [self.secret] if isinstance(self.secret, str) else self.secret
        return [one.encode() for one in given]

    @property
    def header_names(self) -> frozenset[str]:
        """The headers that carry the proof; they are not kept with the event."""
        known = _HEADERS.get(self.scheme)
        return known if known is not None else frozenset({self.header.lower()})

    def holds(self, headers: Headers, body: bytes, now: datetime) -> bool:
        """Whether the signature belongs to these very bytes, and is fresh where that can be told."""
        return _SCHEMES[self.scheme](self, headers, body, now)

    def delivery_id(self, headers: Headers) -> str | None:
        """The id that the scheme gives each delivery, repeated with every attempt of it."""
        if self.scheme == "github":
            return headers.get("x-github-delivery")
        if self.scheme == "standard-webhooks":
            return _standard(headers, "id")
        return None

    def sign(self, body: bytes, now: datetime, delivery: str) -> dict[str, str]:
        """The headers that a sender of this scheme would send with ``body``."""
        return _SIGNERS[self.scheme](self, body, str(int(now.timestamp())), delivery)

    def is_fresh(self, timestamp: str, now: datetime) -> bool:
        """Whether a signed time, in whole seconds since 1970, lies within the tolerance."""
        if not (timestamp.isascii() and timestamp.isdigit()) or len(timestamp) > _LONGEST_TIMESTAMP:
            return False
        return abs(now.timestamp() - int(timestamp)) <= self.tolerance.total_seconds()


_HEADERS: Mapping[str, frozenset[str]] = {
    "github": frozenset({"x-hub-signature-256", "x-hub-signature"}),
    "stripe": frozenset({"stripe-signature"}),
    "slack": frozenset({"x-slack-signature"}),
    "standard-webhooks": frozenset({"webhook-signature", "svix-signature"}),
}


def _plain(verify: Verify, headers: Headers, body: bytes, now: datetime) -> bool:
    given = headers.get(verify.header.lower(), "").strip()
    if not given or not given.startswith(verify.prefix):
        return False
    found = _decoded(given[len(verify.prefix) :], verify.encoding)
    return _is_one_of([found], verify.secrets, body, verify.algorithm)


def _github(verify: Verify, headers: Headers, body: bytes, now: datetime) -> bool:
    """https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries"""
    given = headers.get("x-hub-signature-256", "").strip()
    if not given.startswith("sha256="):
        return False
    return _is_one_of([_decoded(given[7:], "hex")], verify.secrets, body)


def _stripe(verify: Verify, headers: Headers, body: bytes, now: datetime) -> bool:
    """https://docs.stripe.com/webhooks/signature: ``t=TIME,v1=HEX,v1=HEX`` over ``TIME.BODY``"""
    timestamp, found = None, []
    for part in headers.get("stripe-signature", "").split(",")[:_MOST_SIGNATURES]:
        name, _, value = part.strip().partition("=")
        if name == "t":
            timestamp = value
        elif name == "v1":
            found.append(_decoded(value, "hex"))
    if timestamp is None or not verify.is_fresh(timestamp, now):
        return False
    return _is_one_of(found, verify.secrets, f"{timestamp}.".encode() + body)


def _slack(verify: Verify, headers: Headers, body: bytes, now: datetime) -> bool:
    """https://docs.slack.dev/authentication/verifying-requests-from-slack: ``v0=HEX`` over ``v0:TIME:BODY``"""
    given = headers.get("x-slack-signature", "").strip()
    timestamp = headers.get("x-slack-request-timestamp", "").strip()
    if not given.startswith("v0=") or not verify.is_fresh(timestamp, now):
        return False
    return _is_one_of([_decoded(given[3:], "hex")], verify.secrets, f"v0:{timestamp}:".encode() + body)


def _standard_webhooks(verify: Verify, headers: Headers, body: bytes, now: datetime) -> bool:
    """https://github.com/standard-webhooks/standard-webhooks: ``v1,BASE64 …`` over ``ID.TIME.BODY``"""
    delivery, timestamp = _standard(headers, "id"), _standard(headers, "timestamp")
    if not delivery or not timestamp or not verify.is_fresh(timestamp, now):
        return False
    given = (_standard(headers, "signature") or "").split(" ")[:_MOST_SIGNATURES]
    found = [_decoded(one[3:], "base64") for one in given if one.startswith("v1,")]
    try:
        signed = f"{delivery}.{timestamp}.".encode() + body
    except UnicodeEncodeError:
        return False
    return _is_one_of(found, [key for one in verify.secrets for key in _standard_keys(one)], signed)


def _standard(headers: Headers, name: str) -> str | None:
    return headers.get(f"webhook-{name}") or headers.get(f"svix-{name}")


def _standard_keys(secret: bytes) -> Iterator[bytes]:
    """The key behind ``whsec_BASE64``; a secret in another form is taken as it is."""
    text = secret.decode()
    decoded = _decoded(text.removeprefix(_STANDARD_PREFIX), "base64")
    yield decoded if decoded is not None and text.startswith(_STANDARD_PREFIX) else secret


_SCHEMES: Mapping[str, Callable[[Verify, Headers, bytes, datetime], bool]] = {
    "hmac": _plain,
    "github": _github,
    "stripe": _stripe,
    "slack": _slack,
    "standard-webhooks": _standard_webhooks,
}


def _is_one_of(
    found: Sequence[bytes | None], secrets: Sequence[bytes], signed: bytes, algorithm: str = "sha256"
) -> bool:
    """Whether any signature is what any secret makes of ``signed``; all are compared, whichever fits."""
    holds = False
    for secret in secrets:
        wanted = hmac.new(secret, signed, getattr(hashlib, algorithm)).digest()
        for one in found:
            holds |= one is not None and hmac.compare_digest(one, wanted)
    return holds


def _decoded(text: str, encoding: str) -> bytes | None:
    try:
        if encoding == "hex":
            return binascii.unhexlify(text)
        found = base64.b64decode(text, validate=True)
        # several texts stand for the same bytes; a signature has one
        return found if base64.b64encode(found).decode() == text else None
    except (ValueError, binascii.Error):
        return None


# what a sender does, for samples


def _hex(secret: bytes, signed: bytes, algorithm: str = "sha256") -> str:
    return hmac.new(secret, signed, getattr(hashlib, algorithm)).hexdigest()


def _sign_plain(verify: Verify, body: bytes, timestamp: str, delivery: str) -> dict[str, str]:
    digest = hmac.new(verify.secrets[0], body, getattr(hashlib, verify.algorithm)).digest()
    text = digest.hex() if verify.encoding == "hex" else base64.b64encode(digest).decode()
    return {verify.header: verify.prefix + text}


def _sign_github(verify: Verify, body: bytes, timestamp: str, delivery: str) -> dict[str, str]:
    return {
        "X-GitHub-Delivery": delivery,
        "X-GitHub-Event": "push",
        "X-Hub-Signature-256": f"sha256={_hex(verify.secrets[0], body)}",
    }


def _sign_stripe(verify: Verify, body: bytes, timestamp: str, delivery: str) -> dict[str, str]:
    signed = f"{timestamp}.".encode() + body
    return {"Stripe-Signature": f"t={timestamp},v1={_hex(verify.secrets[0], signed)}"}


def _sign_slack(verify: Verify, body: bytes, timestamp: str, delivery: str) -> dict[str, str]:
    signed = f"v0:{timestamp}:".encode() + body
    return {
        "X-Slack-Request-Timestamp": timestamp,
        "X-Slack-Signature": f"v0={_hex(verify.secrets[0], signed)}",
    }


def _sign_standard(verify: Verify, body: bytes, timestamp: str, delivery: str) -> dict[str, str]:
    return _standard_headers(verify.secrets[:1], body, timestamp, delivery)


def sign_standard(secrets: Sequence[str], body: bytes, now: datetime, delivery: str) -> dict[str, str]:
    """The headers of a Standard Webhook, signed with each secret, so that a receiver may know either of two."""
    return _standard_headers([one.encode() for one in secrets], body, str(int(now.timestamp())), delivery)


def _standard_headers(secrets: Sequence[bytes], body: bytes, timestamp: str, delivery: str) -> dict[str, str]:
    signed = f"{delivery}.{timestamp}.".encode() + body
    digests = [
        hmac.new(key, signed, hashlib.sha256).digest() for one in secrets for key in _standard_keys(one)
    ]
    headers = {"webhook-id": delivery, "webhook-timestamp": timestamp}
    if digests:
        headers["webhook-signature"] = " ".join(f"v1,{base64.b64encode(one).decode()}" for one in digests)
    return headers


_SIGNERS: Mapping[str, Callable[[Verify, bytes, str, str], dict[str, str]]] = {
    "hmac": _sign_plain,
    "github": _sign_github,
    "stripe": _sign_stripe,
    "slack": _sign_slack,
    "standard-webhooks": _sign_standard,
}
