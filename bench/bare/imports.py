"""(d) A process that imports the libraries the hub imports, and says how long it lived and how much it holds."""

from __future__ import annotations

import asyncio  # noqa: F401
import sqlite3  # noqa: F401

import aiohttp.web  # noqa: F401
import click  # noqa: F401
import orjson  # noqa: F401
import pluggy  # noqa: F401
import prometheus_client  # noqa: F401
import pydantic  # noqa: F401
import structlog  # noqa: F401
import uuid_utils  # noqa: F401
import uvloop  # noqa: F401
import watchfiles  # noqa: F401
import yaml  # noqa: F401

with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmRSS")), flush=True)
