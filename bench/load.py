"""A load on a webhook: N connections at full speed from a process of its own; prints JSON.

``python -m bench.load URL PATH COUNT_PATH COUNT_KEY CONNECTIONS REQUESTS``
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop


async def post(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes, body: bytes) -> int:
    writer.write(head % len(body) + body)
    status = int((await reader.readline()).split()[1])
    length = 0
    while (line := await reader.readline()) != b"\r\n":
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    await reader.readexactly(length)
    return status


async def read_total(host: str, port: int, path: str) -> int:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return int(json.loads(answer.partition(b"\r\n\r\n")[2])["total"])


async def main(host: str, port: int, path: str, count_path: str, connections: int, requests: int) -> None:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n".encode()
        + b"Content-Length: %d\r\n\r\n"
    )
    before = await read_total(host, port, count_path)
    numbers = iter(range(requests))
    latencies: list[float] = []
    statuses: dict[int, int] = {}

    async def worker() -> None:
        reader, writer = await asyncio.open_connection(host, port)
        for number in numbers:
            began = time.perf_counter()
            status = await post(reader, writer, head, json.dumps({"n": number}).encode())
            latencies.append(time.perf_counter() - began)
            statuses[status] = statuses.get(status, 0) + 1
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(connections)))
    answered = time.perf_counter() - began
    while await read_total(host, port, count_path) - before < statuses.get(202, 0):
        await asyncio.sleep(0.01)
    ended = time.perf_counter() - began
    latencies.sort()
    print(
        json.dumps(
            {
                "perSecond": requests / ended,
                "answeredPerSecond": requests / answered,
                "p50": latencies[len(latencies) // 2] * 1000,
                "p99": latencies[int(len(latencies) * 0.99)] * 1000,
                "statuses": statuses,
            }
        )
    )


uvloop.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5]), int(sys.argv[6])))
