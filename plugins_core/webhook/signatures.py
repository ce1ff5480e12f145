"""Signatures over a request's raw bytes, compared in constant time."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from hub.plugin import Model

_GITHUB_HEADER = "x-hub-signature-256"
_GITHUB_DELIVERY = "x-github-delivery"


class Verify(Model):
    """How a request proves where it comes from."""

    scheme: Literal["github", "hmac"] = Field(
        description="`github` for GitHub's own deliveries, `hmac` for a plain HMAC in a header."
    )
    secret: str = Field(min_length=1, description="The shared secret.")
    header: str = Field("X-Signature", description="With `hmac`: the header that carries the signature.")
    algorithm: Literal["sha1", "sha256", "sha512"] = Field("sha256", description="With `hmac`: the hash.")
    encoding: Literal["hex", "base64"] = Field(
        "hex", description="With `hmac`: how the signature is written."
    )
    prefix: str = Field("", description="With `hmac`: what stands before it, `sha256=`.")

    @property
    def header_name(self) -> str:
        return _GITHUB_HEADER if self.scheme == "github" else self.header.lower()

    def holds(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether the signature belongs to these very bytes.

        GitHub's scheme: https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries.
        """
        given = headers.get(self.header_name, "").strip()
        is_github = self.scheme == "github"
        prefix = "sha256=" if is_github else self.prefix
        if not given or not given.startswith(prefix):
            return False
        algorithm = "sha256" if is_github else self.algorithm
        wanted = hmac.new(self.secret.encode(), body, getattr(hashlib, algorithm)).digest()
        found = _decoded(given[len(prefix) :], "hex" if is_github else self.encoding)
        return found is not None and hmac.compare_digest(found, wanted)

    def delivery_id(self, headers: Mapping[str, str]) -> str | None:
        """The id that the scheme gives each delivery, repeated with every attempt of it."""
        return headers.get(_GITHUB_DELIVERY) if self.scheme == "github" else None


def _decoded(text: str, encoding: str) -> bytes | None:
    try:
        if encoding == "hex":
            return binascii.unhexlify(text)
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return None
