"""(a) and (w): a request to a webhook, answered at once or with what its flow made."""

from __future__ import annotations

import json
import time
from http.client import HTTPConnection
from typing import Any

from bench.rows import Options, Row, median
from bench.subjects import ONE, flush_ms, folder, free_port, hub, python, server, write_flow

_WAITING = """id: waiting
namespace: bench
triggers:
  - {id: hook, type: webhook, key: k, wait: true}
tasks:
  - {id: answer, type: return, value: "{{ trigger.body.n }}"}
outputs: [{id: n, value: "{{ outputs.answer.value }}"}]
"""


def webhook(options: Options) -> list[Row]:
    """(a) webhook to durable SUCCESS of a one-task flow at 1 and 32 connections."""
    rows: list[Row] = []
    flushes = [float(flush_ms()) for _ in range(3)]
    for connections, requests in (
        (32, 4000 if options.quick else 20000),
        (1, 300 if options.quick else 1000),
    ):
        ours: list[dict[str, Any]] = []
        bare: list[dict[str, Any]] = []
        for _ in range(options.rounds):
            bare.append(_bare_load(connections, requests))
            ours.append(hub_load(options, connections, requests))
        for found in ours:
            if set(found["statuses"]) != {"202"}:
                raise SystemExit(f"answers other than 202: {found['statuses']}")
        rate, limit = median([f["perSecond"] for f in ours]), median([f["perSecond"] for f in bare])
        if connections == 32:
            rows.append(
                Row(
                    "a",
                    "executions/s, 32 connections",
                    rate,
                    limit,
                    "/s",
                    rate / limit,
                    ">= 0.40",
                    rate / limit >= 0.4,
                )
            )
            slow, floor = median([f["p99"] for f in ours]), median([f["p99"] for f in bare])
            rows.append(
                Row(
                    "a",
                    "answer p99, 32 connections",
                    slow,
                    floor,
                    "ms",
                    slow / floor,
                    "<= 4",
                    slow / floor <= 4,
                )
            )
        else:
            flush = median(flushes)
            rows.append(Row("a", "executions/s, 1 connection", rate, limit, "/s", rate / limit))
            aim = 4 * flush + 3
            one = _one_by_one(options)
            rows.append(
                Row(
                    "a",
                    "POST to SUCCESS, 1 connection",
                    one,
                    flush,
                    "ms",
                    one / aim,
                    "<= 4 flushes + 3 ms",
                    one <= aim,
                )
            )
    return rows


def _bare_load(connections: int, requests: int) -> dict[str, Any]:
    with folder() as data:
        port = str(free_port())
        with server("bench.bare.webhook", str(data / "bare.db"), port):
            python("bench.load", "127.0.0.1", port, "/hook", "/count", "4", "200")
            text = python("bench.load", "127.0.0.1", port, "/hook", "/count", str(connections), str(requests))
            found: dict[str, Any] = json.loads(text)
            return found


def hub_load(options: Options, connections: int, requests: int) -> dict[str, Any]:
    with folder() as data:
        write_flow(data, ONE)
        with hub(data, data / "flows", options.command) as running:
            path = "/api/v1/webhooks/bench/one/k"
            count = "/api/v1/executions?state=SUCCESS&limit=1&count=true"
            port = str(running.port)
            python("bench.load", "127.0.0.1", port, path, count, "4", "200")
            text = python("bench.load", "127.0.0.1", port, path, count, str(connections), str(requests))
            found: dict[str, Any] = json.loads(text)
            return found


def _one_by_one(options: Options) -> float:
    """Milliseconds from POST until a SUCCESS is read back, one at a time on one connection."""
    with folder() as data:
        write_flow(data, ONE)
        with hub(data, data / "flows", options.command) as running:
            connection = HTTPConnection("127.0.0.1", running.port)

            def call(method: str, path: str, body: str | None = None) -> Any:
                connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
                return json.loads(connection.getresponse().read())

            times: list[float] = []
            for number in range(110):
                began = time.perf_counter()
                answer = call("POST", "/api/v1/webhooks/bench/one/k", json.dumps({"n": number}))
                while call("GET", f"/api/v1/executions/{answer['executionIds'][0]}")["state"] != "SUCCESS":
                    pass
                times.append((time.perf_counter() - began) * 1000)
            connection.close()
            return median(times[10:])


def waiting(options: Options) -> list[Row]:
    """(w) a webhook that answers with what its flow made, beside the plain one's POST to SUCCESS."""
    count = 200 if options.quick else 500
    ours, plain = [], []
    for _ in range(options.rounds):
        with folder() as data:
            write_flow(data, ONE)
            write_flow(data, _WAITING)
            with hub(data, data / "flows", options.command) as running:
                one, other = _beside_each_other(running.port, count)
                plain.append(one)
                ours.append(other)
    took, beside = median(ours), median(plain)
    more = took - beside
    return [
        Row("w", "POST to the answer with wait, p50", took, beside, "ms", more, "<= 5 ms above", more <= 5)
    ]


def _beside_each_other(port: int, count: int) -> tuple[float, float]:
    """Medians in milliseconds: a plain POST until its SUCCESS is read back, and one that waits."""
    connection = HTTPConnection("127.0.0.1", port)

    def call(method: str, path: str, body: str | None = None) -> Any:
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        return json.loads(connection.getresponse().read())

    plain: list[float] = []
    waited: list[float] = []
    for number in range(count + 20):
        body = json.dumps({"n": number})
        began = time.perf_counter()
        answer = call("POST", "/api/v1/webhooks/bench/one/k", body)
        while call("GET", f"/api/v1/executions/{answer['executionIds'][0]}")["state"] != "SUCCESS":
            pass
        between = time.perf_counter()
        if call("POST", "/api/v1/webhooks/bench/waiting/k", body) != {"n": number}:
            raise SystemExit("the waiting webhook did not answer with its flow's outputs")
        plain.append((between - began) * 1000)
        waited.append((time.perf_counter() - between) * 1000)
    connection.close()
    return median(plain[20:]), median(waited[20:])
