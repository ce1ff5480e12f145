"""The contract and the tests of several nodes notice bugs that only a storage of several connections can have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from hub.plugin import Storage
from hub.testing.storage_contract import StorageContract
from plugins_core.postgres import deliveries, recording, writers
from tests.plugins_core import test_postgres as several
from tests.support.postgres_nodes import opened


@pytest.fixture
async def nodes(database: str, tmp_path: Path) -> AsyncIterator[list[Storage]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(opened(database, tmp_path / name)) for name in ("a", "b", "c")]


Plant = Callable[[pytest.MonkeyPatch], None]


def fence_not_checked(patch: pytest.MonkeyPatch) -> None:
    find = recording._locked

    class Lax(int):
        def __ne__(self, other: object) -> bool:
            return False

        __hash__ = int.__hash__

    async def locked(connection: Any, ids: set[str]) -> Any:
        rows = await find(connection, ids)
        for row in rows.values():
            row.fence, row.claimed = Lax(row.fence), True
        return rows

    patch.setattr(recording, "_locked", locked)


def parents_not_locked(patch: pytest.MonkeyPatch) -> None:
    """Whether a parent is held is asked without waiting for who just changes it."""
    find = recording._locked

    async def locked(connection: Any, ids: set[str]) -> Any:
        rows = await find(connection, ids - alone)
        return rows | await unlocked(connection, ids & alone)

    async def unlocked(connection: Any, ids: set[str]) -> Any:
        rows = await connection.fetch(
            "SELECT id, fence, claimed, state, namespace || '/' || flow FROM executions WHERE id = ANY($1::text[])",
            list(ids),
        )
        return {row[0]: recording._Row(row[1], bool(row[2]), row[3], row[4]) for row in rows}

    alone: set[str] = set()
    run = recording.run_records

    async def run_records(commit: Any, works: Any, kin: Any) -> None:
        alone.clear()
        alone.update(parent for _, parent in kin.values() if parent is not None)
        await run(commit, works, kin)

    patch.setattr(recording, "_locked", locked)
    patch.setattr(writers, "run_records", run_records)


def every_key_is_new(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(deliveries.Deliveries, "is_known", lambda self, arrival: False)


def changes_of_transactions_under_way_are_passed_over(patch: pytest.MonkeyPatch) -> None:
    from plugins_core.postgres import changes

    patch.setattr(changes, "_AFTER", changes._AFTER.replace(changes._HORIZON, str(2**62)))


def an_ended_node_writes_on(patch: pytest.MonkeyPatch) -> None:
    from plugins_core.postgres import commits

    async def begin(connection: Any, node: int) -> bool:
        await connection.execute("BEGIN")
        return True

    patch.setattr(commits, "begin", begin)


@pytest.mark.parametrize(
    ("plant", "test"),
    [
        (fence_not_checked, StorageContract.test_a_step_under_an_old_fence_changes_nothing),
        (every_key_is_new, StorageContract.test_a_repeated_delivery_gives_the_first_event_and_starts_nothing),
    ],
    ids=["fence-not-checked", "every-key-is-new"],
)
async def test_the_contract_notices(
    nodes: list[Storage], monkeypatch: pytest.MonkeyPatch, plant: Plant, test: Any
) -> None:
    await test(StorageContract(), nodes[0])
    plant(monkeypatch)
    with pytest.raises((Exception, pytest.fail.Exception)):
        await test(StorageContract(), nodes[1])


@pytest.mark.parametrize(
    ("plant", "test"),
    [
        (parents_not_locked, several.test_a_parent_that_lets_go_while_its_child_ends_is_always_woken),
        (
            changes_of_transactions_under_way_are_passed_over,
            several.test_changes_are_read_in_an_order_that_nothing_comes_before_any_more,
        ),
    ],
    ids=["parents-not-locked", "changes-under-way-passed-over"],
)
async def test_the_tests_of_several_nodes_notice(
    nodes: list[Storage], monkeypatch: pytest.MonkeyPatch, plant: Plant, test: Any
) -> None:
    plant(monkeypatch)
    with pytest.raises((Exception, pytest.fail.Exception)):  # noqa: PT012 - a race may take some tries
        for _ in range(5):
            await test(nodes)


async def test_an_ended_node_that_writes_on_is_noticed(
    nodes: list[Storage], database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    an_ended_node_writes_on(monkeypatch)
    with pytest.raises((Exception, pytest.fail.Exception)):
        await several.test_a_node_that_was_ended_writes_nothing_any_more(nodes, database)
