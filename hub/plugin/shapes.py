"""Base classes for the shapes that most components have; each leaves only what is particular to be written.

    RequestTask         one request to a service, and its answer
    PollingTrigger      look now and then, remember how far it got
    StreamingTrigger    take from a source that wants to be told what was taken
    ReceivingTrigger    be sent requests

What they promise (nothing acknowledged before it is stored, state in the same transaction, Retry-After obeyed) is
kept here, once.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from hub.errors import InvalidInput
from hub.model import jsontext
from hub.model.event import Occurrence, Receipt
from hub.plugin.context import Emit, TaskContext, TriggerContext
from hub.plugin.fields import Duration
from hub.plugin.outcomes import Fail, Failed, Retry
from hub.plugin.task import Task
from hub.plugin.trigger import HttpAnswer, HttpRequest, HttpTrigger, Trigger

if TYPE_CHECKING:
    import aiohttp

_LONGEST_BODY = 10 * 1024 * 1024
_LONGEST_REASON = 300
_TO_BE_TRIED_AGAIN = frozenset({408, 425, 429})
_LONGEST_RETRY_AFTER = timedelta(days=1)


# -- request and response


@dataclass(frozen=True, slots=True)
class Request:
    """A request to a service; ``json`` is sent as JSON, ``data`` as it is."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    data: bytes | str | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """A service's answer."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    @property
    def json(self) -> Any:
        """The body as data, None where it is empty. Raises ``InvalidInput``."""
        try:
            return jsontext.loads(self.body) if self.body.strip() else None
        except ValueError as error:
            raise InvalidInput(f"the answer is not JSON: {self.text.strip()[:_LONGEST_REASON]}") from error


class RequestTask(Task):
    """One request to a service.

    A subclass defines ``request`` and, where the answer is not simply its outputs, ``outputs``. Answers 408, 425,
    429 and 5xx and broken connections are failures that a retry may heal, ``Retry-After`` is obeyed, every other
    answer from 300 on is a failure for good.
    """

    request_timeout: Duration = Field(
        timedelta(seconds=30), gt=timedelta(), description="How long the request may take."
    )

    @abstractmethod
    def request(self, ctx: TaskContext) -> Request | Awaitable[Request]:
        """What to send; ``async def`` where a secret has to be asked for."""
        raise NotImplementedError

    def outputs(self, response: Response) -> Any:
        """What the task gives: by default the answer's JSON."""
        return response.json

    def refused(self, response: Response) -> Exception:
        """What an answer that is no good one means."""
        reason = f"answered {response.status}: {response.text.strip()[:_LONGEST_REASON]}".removesuffix(": ")
        after = _retry_after(response)
        if after is not None:
            return Retry(reason, after=after)
        if response.status in _TO_BE_TRIED_AGAIN or response.status >= 500:
            return Failed(reason)
        return Fail(reason)

    async def run(self, ctx: TaskContext) -> Any:
        asked = self.request(ctx)
        request = await asked if inspect.isawaitable(asked) else asked
        response = await self._send(ctx, request)
        if response.status >= 300:
            raise self.refused(response)
        return self.outputs(response)

    async def _send(self, ctx: TaskContext, request: Request) -> Response:
        import aiohttp

        session = await ctx.shared("hub.plugin.requests", _open_session)
        try:
            async with session.request(
                request.method,
                request.url,
                headers=dict(request.headers),
                params=dict(request.params),
                data=jsontext.dump_bytes(request.json) if request.json is not None else request.data,
                timeout=aiohttp.ClientTimeout(total=self.request_timeout.total_seconds()),
                allow_redirects=False,
            ) as answer:
                body = await answer.content.read(_LONGEST_BODY + 1)
                while len(body) <= _LONGEST_BODY and (more := await answer.content.read(_LONGEST_BODY)):
                    body += more
                if len(body) > _LONGEST_BODY:
                    raise Fail(f"the answer is longer than {_LONGEST_BODY} bytes")
                headers = {name.lower(): value for name, value in answer.headers.items()}
                return Response(answer.status, headers, body)
        except aiohttp.InvalidURL as error:
            raise Fail(f'"{request.url}" is not an http:// or https:// address') from error
        except (aiohttp.ClientError, OSError) as error:
            raise Failed(f"the request failed: {str(error) or type(error).__name__}") from error


@asynccontextmanager
async def _open_session() -> AsyncIterator[aiohttp.ClientSession]:
    import aiohttp

    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(headers=headers, cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session


def _retry_after(response: Response) -> timedelta | None:
    """How long the service wants to be left alone: seconds, or a date against the answer's own."""
    said = response.headers.get("retry-after", "").strip()
    try:
        if said.isdigit():
            return min(timedelta(seconds=int(said)), _LONGEST_RETRY_AFTER)
        then = parsedate_to_datetime(said)
        now = parsedate_to_datetime(response.headers["date"])
    except (ValueError, TypeError, KeyError, OverflowError):
        return None
    wait = then.replace(tzinfo=then.tzinfo or UTC) - now.replace(tzinfo=now.tzinfo or UTC)
    return min(max(wait, timedelta()), _LONGEST_RETRY_AFTER)


# -- polling


@dataclass(frozen=True, slots=True)
class Polled:
    """What one look found, and how far it got; both are stored together."""

    occurrences: Sequence[Occurrence] = ()
    state: Mapping[str, Any] | None = None
    """The new state; None leaves it as it was."""


class PollingTrigger(Trigger):
    """A trigger that looks now and then.

    A subclass defines ``poll``, which is given the state of the last look, empty at first. What it found and the
    new state are stored in one transaction, so nothing is found twice and nothing is passed over, whenever the hub
    goes down.
    """

    every: Duration = Field(timedelta(minutes=1), gt=timedelta(), description="How often to look.")

    @abstractmethod
    async def poll(self, ctx: TriggerContext, state: Mapping[str, Any]) -> Polled:
        """Look once."""
        raise NotImplementedError

    async def run(self, ctx: TriggerContext, emit: Emit) -> None:
        state: Mapping[str, Any] = ctx.state
        while True:
            next_look = ctx.now() + self.every
            found = await self.poll(ctx, state)
            new = state if found.state is None else found.state
            if found.occurrences or new != state:
                await emit(list(found.occurrences), state=new)
                state = new
            while ctx.now() < next_look:
                await ctx.sleep_until(next_look)
                if ctx.now() < next_look - self.every:
                    break  # the clock was put back: look, rather than wait for as long


# -- streaming


async def _nobody() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Batch:
    """What came from a source at once, and how to tell the source that it is taken."""

    occurrences: Sequence[Occurrence]
    acknowledge: Callable[[], Awaitable[object]] = _nobody
    """Called once all of it is stored, and never before."""
    state: Mapping[str, Any] | None = None
    """The trigger's new state, stored together with them."""


class StreamingTrigger(Trigger):
    """A trigger over a source that gives everything again until it is told that it was taken.

    A subclass defines ``batches``, an async generator that owns its connection. Give every occurrence a
    ``Delivery``: what comes again after a crash is then known.
    """

    @abstractmethod
    def batches(self, ctx: TriggerContext) -> AsyncIterator[Batch]:
        """What comes, batch by batch, until cancelled."""
        raise NotImplementedError

    async def run(self, ctx: TriggerContext, emit: Emit) -> None:
        coming: Any = self.batches(ctx)
        async with aclosing(coming):
            async for batch in coming:
                if batch.occurrences or batch.state is not None:
                    await emit(list(batch.occurrences), state=batch.state)
                # a crash here brings the batch again, and its deliveries are known
                await batch.acknowledge()


# -- receiving


class ReceivingTrigger(HttpTrigger):
    """A trigger that is sent requests at ``/api/v1/webhooks/{namespace}/{flow}/{key}``.

    A subclass defines ``occurrences`` and, where senders sign what they send, ``verify``. 202 is answered once all
    is stored; 405 for another method, 401 where ``verify`` refuses, 422 for what ``occurrences`` cannot read, 503
    while nothing can be stored.
    """

    methods: ClassVar[tuple[str, ...]] = ("POST",)

    key: str = Field(min_length=1, description="The last part of its URL: whoever knows it may send.")

    @abstractmethod
    def occurrences(self, request: HttpRequest, ctx: TriggerContext) -> Sequence[Occurrence]:
        """What a request brings; none for one that brings nothing, a ping.

        Raises ``InvalidInput``, or a ``ValueError`` as parsers do, for one that cannot be read.
        """
        raise NotImplementedError

    def verify(self, request: HttpRequest, ctx: TriggerContext) -> bool:
        """Whether the request is from whom it says; over ``request.raw``, in constant time."""
        return True

    def answer(self, receipts: Sequence[Receipt]) -> HttpAnswer:
        """What to answer once all is stored."""
        if any(receipt.conflict for receipt in receipts):
            return _refusal(409, "conflict", "a delivery with this id and another content is known")
        return HttpAnswer(202, {"eventIds": [receipt.event_id for receipt in receipts]})

    def takes(self, method: str) -> bool:
        return method in self.methods

    async def receive(self, request: HttpRequest, ctx: TriggerContext, emit: Emit) -> HttpAnswer:
        if not self.takes(request.method):
            allowed = ", ".join(self.methods)
            return _refusal(405, "method_not_allowed", f"{request.method} is not allowed here", Allow=allowed)
        if not self.verify(request, ctx):
            return _refusal(401, "bad_signature", "the signature is missing or wrong")
        try:
            found = list(self.occurrences(request, ctx))
        except (InvalidInput, ValueError) as error:
            return _refusal(422, InvalidInput.code, f"the request cannot be read: {error}")
        return self.answer(await emit(found) if found else [])


def _refusal(status: int, code: str, message: str, **headers: str) -> HttpAnswer:
    return HttpAnswer(status, {"code": code, "message": message, "hint": None, "details": None}, headers)
