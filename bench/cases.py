"""The cases by their letters: each measures the hub and its bare limit in turn, several times, and gives medians."""

from __future__ import annotations

from collections.abc import Callable

from bench.plugins import plugins
from bench.postgres import lists as postgres_lists
from bench.postgres import postgres
from bench.reading import lists, streams
from bench.rows import Options, Row, median
from bench.runs import loops, scripts, sequence
from bench.sources import files, schedules
from bench.starts import start
from bench.webhooks import hub_load, waiting, webhook


def kafka(options: Options) -> list[Row]:
    """(k) a topic of 1 KB records: one execution each, batches of 500, append to SUCCESS, memory while a million wait."""
    from bench.kafka import measure  # needs a broker: nobody else pays for it

    count = 4000 if options.quick else 20000
    rate = median([hub_load(options, 32, count)["perSecond"] for _ in range(options.rounds)])
    return measure(options, rate)


CASES: dict[str, Callable[[Options], list[Row]]] = {
    "a": webhook,
    "b": sequence,
    "c": loops,
    "d": start,
    "e": scripts,
    "f": files,
    "w": waiting,
    "g": schedules,
    "h": streams,
    "i": lists,
    "k": kafka,
    "p": plugins,
    "q": postgres,
    "r": postgres_lists,
}
