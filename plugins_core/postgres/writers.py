"""The connections that write: each collects what waits, commits it at once, and answers each item.

An execution's writes go over one connection, so that none overtakes another; what has arrived goes over the one that
is free first. While a commit is under way the next items gather. When a shared transaction fails, its halves are tried
apart, so one item's error is only its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hub.plugin import Accepted, Recorded, StorageOverloaded, StorageUnavailable
from plugins_core.postgres.accepting import AcceptWork, queues_of, run_accepts
from plugins_core.postgres.commits import Commit, Transactions
from plugins_core.postgres.queues import Queues
from plugins_core.postgres.recording import RecordWork, relations_of, run_records

_MOST_PER_COMMIT = 512
_FIRST_BACKOFF = 0.1
_LONGEST_BACKOFF = 2.0


@dataclass(slots=True)
class CallWork:
    """Something done in a transaction of its own, and the answer to it."""

    call: Callable[[Commit], Awaitable[Any]]
    answer: Any = None
    error: Exception | None = None


Work = AcceptWork | RecordWork | CallWork


@dataclass(slots=True)
class Job:
    """One write and who waits for it; nobody does where it has no future."""

    work: Work
    future: asyncio.Future[Any] | None


class Writers:
    """All of them, and which one an item goes to."""

    def __init__(self, driver: Any, transactions: Transactions, *, count: int, queue_limit: int) -> None:
        self._limit = queue_limit
        self._arrived = Arrived()
        self._writers = [
            Writer(driver, transactions, number, self._arrived, self._wake_another) for number in range(count)
        ]

    async def start(self) -> None:
        """Connect them. Raises the driver's ``Failure``."""
        for writer in self._writers:
            await writer.start()

    async def stop(self) -> None:
        """Commit what waits, and close the connections."""
        self._arrived.is_closed = True
        await asyncio.gather(*(writer.stop() for writer in self._writers))

    def accept(self, work: AcceptWork) -> asyncio.Future[list[Accepted]]:
        """Store what has arrived. Raises ``StorageOverloaded`` when too much is waiting."""
        source = _source_of(work)
        if source is not None:
            return self._submit(self._of(source), work)
        self._check_room()
        future = self._arrived.put(work)
        if not any(writer.is_about_to_take for writer in self._writers):
            self._wake_another()
        return future

    def _wake_another(self) -> None:
        """Have one that is idle take what has arrived, if there is one."""
        idle = next((writer for writer in self._writers if writer.is_idle), None)
        if idle is not None:
            idle.wake()

    def record(self, work: RecordWork) -> asyncio.Future[Recorded]:
        """Store a step. Raises ``StorageOverloaded`` when too much is waiting."""
        return self._submit(self._of(work.step.execution_id), work)

    def record_soon(self, work: RecordWork) -> None:
        """Store a step that nobody waits for."""
        self._of(work.step.execution_id).put(Job(work, None))

    def call(self, execution_id: str, call: Callable[[Commit], Awaitable[Any]]) -> asyncio.Future[Any]:
        """Do something about an execution, after its earlier writes and before its later ones."""
        return self._submit(self._of(execution_id), CallWork(call))

    async def settled(self) -> None:
        """Return once all that waits now has been committed, or refused."""
        await self._arrived.taken()
        await asyncio.gather(*(writer.settled() for writer in self._writers))

    def _of(self, execution_id: str) -> Writer:
        return self._writers[hash(execution_id) % len(self._writers)]

    def _submit(self, writer: Writer, work: Work) -> asyncio.Future[Any]:
        self._check_room()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        writer.put(Job(work, future))
        return future

    def _check_room(self) -> None:
        if self._arrived.waiting + sum(one.waiting for one in self._writers) >= self._limit:
            raise StorageOverloaded(f"{self._limit} writes are waiting")


class Arrived:
    """What has arrived and waits for whichever connection is free first."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []
        self._count = 0
        """How many were ever taken."""
        # replaced whenever some are
        self._taken = asyncio.Event()
        self.is_closed = False

    @property
    def waiting(self) -> int:
        return len(self._jobs)

    def put(self, work: AcceptWork) -> asyncio.Future[Any]:
        """Let it wait; its answer."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.is_closed:
            future.set_exception(StorageUnavailable("the storage is closed"))
        else:
            self._jobs.append(Job(work, future))
        return future

    def take(self, most: int) -> list[Job]:
        """The oldest ones."""
        jobs, self._jobs = self._jobs[:most], self._jobs[most:]
        if jobs:
            self._count += len(jobs)
            taken, self._taken = self._taken, asyncio.Event()
            taken.set()
        return jobs

    async def taken(self) -> None:
        """Return once all that waits now has been taken."""
        until = self._count + len(self._jobs)
        while self._count < until:
            await self._taken.wait()


class Writer:
    """One connection and what waits for it."""

    def __init__(
        self,
        driver: Any,
        transactions: Transactions,
        number: int,
        arrived: Arrived,
        leave_some: Callable[[], None],
    ) -> None:
        self._driver = driver
        self._transactions = transactions
        self._arrived = arrived
        self._leave_some = leave_some
        """Called when it could not take all that has arrived."""
        self._name = f"writer {number + 1}"
        self._connection: Any = None
        self._jobs: list[Job] = []
        self._under_way = 0
        self._has_jobs = asyncio.Event()
        self._closed = False
        self._task: asyncio.Task[None] | None = None
        self._backoff = _FIRST_BACKOFF
        self._connect_after = 0.0
        self._own_under_way = 0
        self._own_ended = 0
        """How many of its own items, those that did not just arrive, were committed or refused so far."""
        # replaced whenever a batch is done
        self._done = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many items wait or are being committed."""
        return len(self._jobs) + self._under_way

    @property
    def is_idle(self) -> bool:
        """Whether it waits for something to do."""
        return not self._under_way and not self._has_jobs.is_set()

    @property
    def is_about_to_take(self) -> bool:
        """Whether it takes what waits in a moment."""
        return not self._under_way and self._has_jobs.is_set()

    def wake(self) -> None:
        """Take what waits."""
        self._has_jobs.set()

    async def start(self) -> None:
        self._connection = await self._driver.connect(self._name)
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"postgres {self._name}")

    async def stop(self) -> None:
        from plugins_core.postgres.driver import close

        self._closed = True
        self._has_jobs.set()
        if self._task is not None:
            await self._task
        if self._connection is not None:
            await close(self._connection)

    def put(self, job: Job) -> None:
        """Let a job wait for the next commit."""
        if self._closed:
            if job.future is not None:
                job.future.set_exception(StorageUnavailable("the storage is closed"))
            return
        self._jobs.append(job)
        self._has_jobs.set()

    async def settled(self) -> None:
        """Return once all that waits now is done."""
        until = self._own_ended + self._own_under_way + len(self._jobs)
        if self._under_way:  # with what has arrived among it
            await self._done.wait()
        while self._own_ended < until:
            await self._done.wait()

    async def _run(self) -> None:
        while True:
            await self._has_jobs.wait()
            # what comes in the same turn of the loop shares the commit
            await asyncio.sleep(0)
            jobs = self._take()
            if jobs:
                self._under_way = len(jobs)
                if self._arrived.waiting:
                    self._leave_some()
                await self._commit(jobs)
                self._own_ended += self._own_under_way
                self._under_way = self._own_under_way = 0
                done, self._done = self._done, asyncio.Event()
                done.set()
            elif self._closed:
                return
            if not self._jobs and not self._arrived.waiting and not self._closed:
                self._has_jobs.clear()

    def _take(self) -> list[Job]:
        """The next jobs that share a commit: a call has one of its own."""
        if self._jobs and isinstance(self._jobs[0].work, CallWork):
            self._own_under_way = 1
            return [self._jobs.pop(0)]
        calls = (number for number, job in enumerate(self._jobs) if isinstance(job.work, CallWork))
        size = min(next(calls, len(self._jobs)), _MOST_PER_COMMIT)
        jobs, self._jobs = self._jobs[:size], self._jobs[size:]
        self._own_under_way = size
        return jobs + self._arrived.take(_MOST_PER_COMMIT - size)

    async def _commit(self, jobs: Sequence[Job]) -> None:
        """Commit jobs together, or apart where one of them cannot be stored; each gets its answer."""
        from plugins_core.postgres.driver import is_refusal, plain

        try:
            await self._stored([job.work for job in jobs])
        except Exception as error:
            # a conflict that keeps coming back may be of one of them, as a broken key is
            apart = is_refusal(error) or not isinstance(plain(error), StorageUnavailable)
            if apart and len(jobs) > 1:
                half = len(jobs) // 2
                await self._commit(jobs[:half])
                await self._commit(jobs[half:])
                return
            told = plain(error)
            for job in jobs:
                if job.future is not None and not job.future.done():
                    job.future.set_exception(told)
            return
        for job in jobs:
            _answer(job)

    async def _stored(self, works: Sequence[Work]) -> None:
        """Store works, over a new connection where the old one has broken since it was last used."""
        from plugins_core.postgres.driver import Failure, is_refusal

        fresh = await self._connected()
        try:
            await self._transactions.on(self._connection, lambda commit: run_works(commit, works))
        except Failure as error:
            if fresh or is_refusal(error) or not self._connection.is_closed():
                raise
            # it broke before the commit was sent, so nothing was stored: a commit that broke raises otherwise
            await self._connected()
            await self._transactions.on(self._connection, lambda commit: run_works(commit, works))

    async def _connected(self) -> bool:
        """Have a connection; answers whether it is a new one. Raises the driver's ``Failure``."""
        from plugins_core.postgres.driver import Failure

        if not self._connection.is_closed():
            return False
        loop = asyncio.get_running_loop()
        if loop.time() < self._connect_after:
            raise StorageUnavailable("postgres: the server is away")
        try:
            self._connection = await self._driver.connect(self._name)
        except Failure:
            self._connect_after = loop.time() + self._backoff
            self._backoff = min(self._backoff * 2, _LONGEST_BACKOFF)
            raise
        self._backoff = _FIRST_BACKOFF
        return True


async def run_works(commit: Commit, works: Sequence[Work]) -> None:
    """Store steps and arrivals in one transaction; each gets its answer or its refusal."""
    for work in works:
        if isinstance(work, CallWork):
            work.answer = await work.call(commit)
    records = [work for work in works if isinstance(work, RecordWork)]
    accepts = [work for work in works if isinstance(work, AcceptWork)]
    kin = await relations_of(commit, records)
    brought = [AcceptWork(work.step.arrivals, work.step.at) for work in records if work.step.arrivals]
    asked = queues_of([*accepts, *brought])
    ending = {queue for queue, _ in kin.values() if queue is not None}
    queues = await Queues.locked(commit.connection, asked | ending)
    if records:
        await run_records(commit, records, kin)
        accepts += [work.brings for work in records if work.brings is not None]
    if accepts:
        # counted after the ends of this commit, which make room
        await queues.count(asked)
        await run_accepts(commit, accepts, queues, is_last=True)
    for record in records:
        if record.brings is not None and record.answer is not None:
            record.answer = _with_what_it_brought(record.answer, record.brings)


def _source_of(work: AcceptWork) -> str | None:
    """What a work is about that may be about others too, which take effect in the order in which they came."""
    if work.move is not None:
        return str(work.move.key)
    batches = (arrival.event for arrival in work.arrivals if arrival.takes)
    return next((event.source for event in batches if event is not None), None)


def _with_what_it_brought(recorded: Recorded, brought: AcceptWork) -> Recorded:
    waiting = sum(one.waiting for one in brought.answer)
    born = {id: state for one in brought.answer for id, state in one.born.items()}
    return Recorded(recorded.claims, recorded.waiting + waiting, recorded.woken, born)


def _answer(job: Job) -> None:
    if job.future is None or job.future.done():
        return
    work = job.work
    if work.error is not None:
        job.future.set_exception(work.error)
    else:
        job.future.set_result(work.answer)
