"""Putting flows: once created, however many try at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.api.conftest import Serve

_FLOW = b"id: w\nnamespace: q\ntriggers: [{id: h, type: webhook, key: k}]\ntasks: [{id: t, type: return, value: %d}]\n"


@pytest.fixture(params=["memory:", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'hub.db'}" if request.param == "sqlite" else request.param


async def test_of_many_that_put_a_new_flow_at_once_one_creates_it(serving: Serve, storage: str) -> None:
    async with serving(storage=storage) as ask:
        same = await asyncio.gather(*(ask("PUT", "/api/v1/flows/q/w", _FLOW % 1) for _ in range(6)))
        assert sorted(answer.status for answer in same) == [200] * 5 + [201]
        assert {answer.json["revision"] for answer in same} == {1}
        assert sum(answer.json["changed"] for answer in same) == 1
        others = await asyncio.gather(*(ask("PUT", "/api/v1/flows/q/w", _FLOW % n) for n in range(2, 8)))
        assert {answer.status for answer in others} == {200}
        newest = max(others, key=lambda answer: answer.json["revision"])
        assert (
            (await ask("GET", "/api/v1/flows")).json["items"][0]["revision"] == newest.json["revision"] == 7
        )


async def test_a_flow_that_comes_back_as_it_was_is_in_use_again(serving: Serve, storage: str) -> None:
    async with serving(storage=storage) as ask:
        assert (await ask("PUT", "/api/v1/flows/q/w", _FLOW % 1)).status == 201
        assert (await ask("DELETE", "/api/v1/flows/q/w")).status == 204
        assert (await ask("POST", "/api/v1/webhooks/q/w/k", {})).status == 404
        assert (await ask("PUT", "/api/v1/flows/q/w", _FLOW % 1)).status == 201
        assert (await ask("POST", "/api/v1/webhooks/q/w/k", {})).status == 202
