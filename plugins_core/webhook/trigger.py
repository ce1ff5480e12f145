"""The webhook trigger: one request, one event, answered when it is durable."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from hub.plugin import (
    Deferred,
    Delivery,
    Duration,
    Emit,
    HttpAnswer,
    HttpRequest,
    HttpTrigger,
    HubError,
    InvalidInput,
    Model,
    Occurrence,
    TriggerContext,
    jsontext,
    new_id,
)
from plugins_core.webhook.answers import Respond, Wait, after_wait, refused, rendered, stored
from plugins_core.webhook.batches import Batch
from plugins_core.webhook.bodies import digest, read_body, shown, uploads_in
from plugins_core.webhook.limits import RateLimit, Window
from plugins_core.webhook.multipart import BrokenForm
from plugins_core.webhook.signatures import Verify

_CREDENTIAL = re.compile(r"signature|token|api[-_]?key|secret|password|cookie|authorization")
_KEY = re.compile(r"[^\s/?#\x00-\x1f\x7f]+\Z")
_LONGEST_DELIVERY_KEY = 500
_LARGE = 1024 * 1024
"""Bodies beyond this, where the settings allow them, are read in a thread: nobody else waits for it."""

Method = Literal["GET", "POST", "PUT"]


class Dedup(Model):
    """What makes a repeat of a delivery known."""

    key: Deferred = Field(description="An expression over `trigger` that names the delivery.")
    window: Duration = Field(
        timedelta(days=7), gt=timedelta(), description="How long a delivery is remembered."
    )


class Webhook(HttpTrigger):
    """Start the flow when a request comes in."""

    type: ClassVar[str] = "webhook"
    event_type: ClassVar[str] = "hub.webhook.received"
    examples: ClassVar[tuple[str, ...]] = (
        "id: hook\ntype: webhook\nkey: \"{{ secret('ORDERS_KEY') }}\"",
        "id: push\ntype: webhook\nkey: my-key\n"
        "verify: {scheme: github, secret: \"{{ secret('GITHUB_SECRET') }}\"}\n"
        "when: \"{{ trigger.body.ref == 'refs/heads/main' }}\"",
        "id: readings\ntype: webhook\nkey: my-key\nbatch: {maxEvents: 500, maxWait: PT5S}",
    )

    key: str = Field(min_length=1, description="The last part of the URL; keep it secret.")
    methods: list[Method] = Field(["GET", "POST", "PUT"], min_length=1, description="The methods it takes.")
    verify_: Verify | None = Field(
        None, alias="verify", description="Refuse requests without this signature."
    )
    dedup: Dedup | None = Field(
        None, description="Take each delivery once; by itself where `verify` carries a delivery id."
    )
    wait: bool | Wait = Field(
        False, description="Answer with the flow's outputs once it has ended, not with its id at once."
    )
    respond: Respond | None = Field(None, description="What to answer in place of the default.")
    batch: Batch | None = Field(
        None, description="Start the flow once for several requests, which `trigger.events` lists."
    )
    rate_limit: RateLimit | None = Field(None, description="Answer 429 beyond this; no limit unless set.")

    _window: Window = PrivateAttr(default_factory=Window)

    class Data(BaseModel):
        model_config = ConfigDict(extra="forbid")

        body: Any = Field(
            None,
            description="JSON as data, a form as a mapping, text as text; a file, in a form or the whole body, "
            "as `name` (in a form), `contentType`, `size`, `sha256` and the `uri` where it is kept; null when empty.",
        )
        headers: dict[str, Any] = Field(
            description="By lower-case name; without those whose name says credential or signature."
        )
        parameters: dict[str, Any] = Field(
            description="The query; a single value is text, a repeated one a list."
        )
        method: str = Field(description="GET, POST or PUT.")
        events: list[dict[str, Any]] = Field(
            [],
            description="With `batch`, in place of all the others: the requests, each with `id`, `receivedAt` "
            "and `body headers parameters method`, oldest first.",
        )
        count: int = Field(0, description="With `batch`: how many they are.")

    @field_validator("key")
    @classmethod
    def _fits_a_url(cls, value: str) -> str:
        if "{{" not in value and not _KEY.match(value):
            raise ValueError("a key stands in a URL: no blanks, /, ? or #")
        if value in (".", ".."):
            raise ValueError(f'"{value}" is a step in a URL and cannot be a key')
        return value

    @model_validator(mode="after")
    def _answers_one_way(self) -> Webhook:
        if self.batch is not None and self.wait is not False:
            raise ValueError("give either wait or batch: a request of a batch has no execution to wait for")
        return self

    @classmethod
    def batches(cls, properties: Mapping[str, Any]) -> bool:
        return properties.get("batch") is not None

    async def run(self, ctx: TriggerContext, emit: Emit) -> None:
        if self.batch is not None:
            await self.batch.run(ctx, emit)

    def takes(self, method: str) -> bool:
        return method in self.methods

    async def receive(self, request: HttpRequest, ctx: TriggerContext, emit: Emit) -> HttpAnswer:
        refusal = self._refusal(request, ctx)
        if refusal is not None:
            return refusal
        try:
            is_large = len(request.body) > _LARGE
            body = await asyncio.to_thread(read_body, request) if is_large else read_body(request)
            delivery = await self._delivery(request, body, ctx)
        except BrokenForm as error:
            return refused(400, "bad_request", error.message)
        except HubError as error:
            return refused(422, "invalid", error.message)
        event_id = new_id()
        for upload in uploads_in(body):
            # flushed before the event's row names it; what a repeat brings again is swept
            await upload.keep(ctx.files(event_id))
        data = self._data(request, body)
        waits = self.batch is not None
        [receipt] = await emit(Occurrence(data, delivery=delivery, id=event_id, waits=waits))
        if self.wait:
            patience = self.wait if isinstance(self.wait, Wait) else Wait()
            return await after_wait(receipt, patience, self.respond, data, ctx)
        if self.respond is not None and not receipt.conflict:
            return await rendered(self.respond, data, ctx)
        return stored(receipt, batched=True) if waits else stored(receipt)

    def _refusal(self, request: HttpRequest, ctx: TriggerContext) -> HttpAnswer | None:
        """Why a request is not even read, where it is not."""
        if request.method not in self.methods:
            allowed = ", ".join(self.methods)
            return refused(405, "method_not_allowed", f"{request.method} is not allowed here", Allow=allowed)
        if self.verify_ is not None and not self.verify_.holds(request.headers, request.raw, ctx.now()):
            return refused(401, "bad_signature", "the signature is missing or wrong")
        if self.rate_limit is None:
            return None
        # after the signature: what strangers send takes nobody's place
        left = self._window.take(self.rate_limit, time.monotonic())
        if left is None:
            return None
        headers = {"Retry-After": str(math.ceil(left))}
        return refused(429, "rate_limited", "more requests than this webhook takes", **headers)

    def sample(self, data: Any, now: datetime) -> tuple[bytes, dict[str, str]]:
        """A request as its sender would send it, signed: its body and headers."""
        body = jsontext.dump_bytes(data)
        headers = {"Content-Type": "application/json"}
        if self.verify_ is not None:
            headers |= self.verify_.sign(body, now, new_id())
        return body, headers

    def _data(self, request: HttpRequest, body: Any) -> dict[str, Any]:
        signatures: frozenset[str] = self.verify_.header_names if self.verify_ else frozenset()
        return {
            "body": shown(body),
            "headers": {
                name: value
                for name, value in request.headers.items()
                if name not in signatures and not _is_credential(name)
            },
            "parameters": dict(request.query),
            "method": request.method,
        }

    async def _delivery(self, request: HttpRequest, body: Any, ctx: TriggerContext) -> Delivery | None:
        window = self.dedup.window if self.dedup is not None else timedelta(days=7)
        if self.dedup is not None:
            # before any file is kept: no key can name where one lies
            key = await ctx.render(self.dedup.key, self._data(request, body))
            if key is None:
                return None
            if isinstance(key, dict | list):
                raise InvalidInput("dedup.key gave no text")
            key = key if isinstance(key, str) else jsontext.dumps(key)
        else:
            key = self.verify_.delivery_id(request.headers) if self.verify_ is not None else None
            if key is None:
                return None
        if not 1 <= len(key) <= _LONGEST_DELIVERY_KEY:
            raise InvalidInput(f"a delivery id has 1 to {_LONGEST_DELIVERY_KEY} characters")
        return Delivery(key, digest(request, body), window)


@lru_cache(maxsize=1024)
def _is_credential(name: str) -> bool:
    """Whether a header is left out of the event by its name alone."""
    return _CREDENTIAL.search(name) is not None
