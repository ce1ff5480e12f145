"""The event bus: one door in, and news for whoever listens.

``publish`` is the one door for events; it returns when the intake has them stored. ``tell`` brings news of
what is stored already: it only wakes, so a subscriber that is too slow may miss some without harm. ``inform``
brings whole news to the listeners of plugins, each behind a queue of its own. The bus knows neither storage nor
flows; the intake is handed in when the hub is put together.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hub.bus.listening import ListenerQueue
from hub.model.event import Occurrence, Origin, Receipt
from hub.plugin.context import Bookmark
from hub.plugin.listener import News as ListenerNews

_ALL = ""
"""Stands for every topic."""


@dataclass(frozen=True, slots=True)
class News:
    """Something that is stored now: ``topic`` says what, ``id`` which, ``details`` a little about it."""

    topic: str
    id: str
    details: Mapping[str, Any]


Intake = Callable[
    [Origin, Sequence[Occurrence], Mapping[str, Any] | None, str, Bookmark | None],
    Awaitable[list[Receipt]],
]


class Subscription:
    """A listener's own bounded queue; the oldest news give way when it is full."""

    def __init__(self, topics: frozenset[str], size: int) -> None:
        self._topics = topics
        self._news: deque[News] = deque(maxlen=size)
        self._arrived = asyncio.Event()
        self.missed = 0
        """How many news were dropped because nobody took them in time."""

    def offer(self, news: News) -> None:
        if self._topics and news.topic not in self._topics:
            return
        if len(self._news) == self._news.maxlen:
            self.missed += 1
        self._news.append(news)
        self._arrived.set()

    @property
    def has_more(self) -> bool:
        """Whether news lie here already."""
        return bool(self._news)

    def forget(self) -> None:
        """Drop what lies here."""
        self._news.clear()
        self.missed = 0

    async def __aiter__(self) -> AsyncIterator[News]:
        while True:
            yield await self.next()

    async def next(self) -> News:
        """The next news, waiting for it."""
        while not self._news:
            self._arrived.clear()
            await self._arrived.wait()
        return self._news.popleft()


class Bus:
    """Events in, news out."""

    def __init__(self) -> None:
        self._intake: Intake | None = None
        self._subscriptions: set[Subscription] = set()
        self._heard: Counter[str] = Counter()
        """How many listen to each topic, and to all of them."""
        self._queues: set[ListenerQueue] = set()

    def open_to(self, intake: Intake) -> None:
        """Hand in the intake; until then nothing can be published."""
        self._intake = intake

    async def publish(
        self,
        origin: Origin,
        occurrences: Sequence[Occurrence],
        state: Mapping[str, Any] | None = None,
        *,
        event_type: str,
        bookmark: Bookmark | None = None,
    ) -> list[Receipt]:
        """Store events, and the new state of the trigger they come from, or of one part; one receipt each.

        Its return is the acknowledgement. ``event_type`` is the CloudEvents type of occurrences that name none.
        """
        if self._intake is None:
            raise RuntimeError("the bus is not open yet")
        return await self._intake(origin, occurrences, state, event_type, bookmark)

    @property
    def has_listeners(self) -> bool:
        return bool(self._subscriptions)

    def is_heard(self, topic: str) -> bool:
        """Whether anybody listens to a topic: else its news need not be made."""
        return topic in self._heard or _ALL in self._heard

    def tell(self, topic: str, id: str, **details: Any) -> None:
        """Bring news to every listener; never waits."""
        if self._subscriptions:
            news = News(topic, id, details)
            for subscription in self._subscriptions:
                subscription.offer(news)

    @property
    def has_audience(self) -> bool:
        """Whether any listener of a plugin wants to be told."""
        return bool(self._queues)

    def inform(self, news: ListenerNews) -> None:
        """Tell the listeners of plugins; never waits."""
        for queue in self._queues:
            queue.offer(news)

    def attach(self, queue: ListenerQueue) -> None:
        """Let a listener's queue be filled."""
        self._queues.add(queue)

    def detach(self, queue: ListenerQueue) -> None:
        """Fill it no more."""
        self._queues.discard(queue)

    @contextmanager
    def subscribe(self, *topics: str, size: int = 1000) -> Iterator[Subscription]:
        """Listen to some topics (all when none is named) until the block ends."""
        subscription = Subscription(frozenset(topics), size)
        heard = Counter(topics or (_ALL,))
        self._subscriptions.add(subscription)
        self._heard += heard
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            self._heard -= heard
