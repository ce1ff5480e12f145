"""Several hubs over one PostgreSQL, and faults: nothing acknowledged is lost, nothing happens twice, all goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.node_rounds import Cluster, Fault, find_faketime, run_node_rounds

_DAY = 86_400.0


async def kill_one(cluster: Cluster) -> None:
    await cluster.kill_one()


async def kill_all(cluster: Cluster) -> None:
    await cluster.kill_all()


async def crash_the_server(cluster: Cluster) -> None:
    await cluster.crash_the_server()


async def cut_connections(cluster: Cluster) -> None:
    await cluster.cut_connections()


def freeze_one(seconds: float) -> Fault:
    async def freeze(cluster: Cluster) -> None:
        await cluster.freeze_one(seconds)

    return freeze


def told(what: str, cluster: Cluster, wrong: list[str]) -> None:
    ledger = cluster.ledger
    print(
        f"nodes ledger: {what}, {ledger.sent} deliveries, {len(ledger.acknowledged)} acknowledged,"
        f" {len(ledger.calls)} task calls, {len(ledger.scheduled)} scheduled, {len(wrong)} promises broken"
    )
    assert not wrong, "\n".join(wrong[:20])
    assert len(ledger.acknowledged) > 30
    assert ledger.scheduled


@pytest.mark.timeout(300)
async def test_some_of_everything_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    """In turn: one hub killed, all connections cut, the server crashed, all hubs killed."""
    faults = iter([kill_one, cut_connections, kill_one, crash_the_server, kill_one, kill_all])

    async def next_fault(cluster: Cluster) -> None:
        await next(faults)(cluster)

    cluster, wrong = await run_node_rounds(tmp_path, 6, next_fault)
    told("six faults", cluster, wrong)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("rounds", "fault", "lease"),
    [
        pytest.param(100, lambda: kill_one, 6.0, id="one-of-three-killed-100-times"),
        pytest.param(10, lambda: kill_one, 30.0, id="one-of-three-killed-with-the-default-lease"),
        pytest.param(10, lambda: freeze_one(60.0), 6.0, id="one-frozen-for-60-s-10-times"),
        pytest.param(10, lambda: kill_all, 6.0, id="all-killed-10-times"),
        pytest.param(20, lambda: crash_the_server, 6.0, id="postgres-crashed-20-times"),
        pytest.param(60, lambda: cut_connections, 6.0, id="connections-cut-60-times"),
    ],
)
async def test_faults_lose_nothing_and_repeat_nothing(
    tmp_path: Path, rounds: int, fault: Callable[[], Fault], lease: float
) -> None:
    pause = (5.0, 15.0) if rounds == 20 else (0.2, 1.2)
    cluster, wrong = await run_node_rounds(tmp_path, rounds, fault(), lease=lease, pause=pause)
    told(f"{rounds} rounds", cluster, wrong)


async def restart_one_after_another(cluster: Cluster) -> None:
    await cluster.roll()


@pytest.mark.faults
async def test_a_rolling_restart_fails_no_request_behind_the_readiness_check(tmp_path: Path) -> None:
    cluster, wrong = await run_node_rounds(tmp_path, 2, restart_one_after_another, careful=True)
    told("2 rolling restarts", cluster, wrong)
    assert cluster.refused == []


@pytest.mark.faults
@pytest.mark.timeout(1800)
async def test_300_schedules_on_five_hubs_fire_each_planned_time_once(tmp_path: Path) -> None:
    cluster, wrong = await run_node_rounds(tmp_path, 30, kill_one, hubs=5, lease=6.0, schedules=300)
    told("30 kills, 5 hubs, 300 schedules", cluster, wrong)
    counts = cluster.stored
    assert len(counts) == 300
    assert all(gaps == 0 for _, gaps in counts), counts


@pytest.mark.faults
@pytest.mark.parametrize("off", [3600.0, -3600.0, _DAY, -_DAY], ids=["+1h", "-1h", "+1d", "-1d"])
async def test_a_wrong_wall_clock_of_one_hub_changes_nothing(tmp_path: Path, off: float) -> None:
    cluster, wrong = await run_node_rounds(tmp_path, 5, kill_one, clocks={1: off})
    told(f"5 kills, one clock off by {off:g} s", cluster, wrong)


@pytest.mark.faults
@pytest.mark.parametrize("off", [3600.0, -3600.0, _DAY, -_DAY], ids=["+1h", "-1h", "+1d", "-1d"])
async def test_a_wall_clock_that_jumps_while_its_hub_runs_changes_nothing(tmp_path: Path, off: float) -> None:
    faketime = find_faketime()
    if faketime is None:
        pytest.skip("libfaketime is not on this machine, no clock was moved: apt-get install faketime")
    moves = iter([off, 0.0, off])

    async def move_and_kill_one(cluster: Cluster) -> None:
        await cluster.move_the_clock(next(moves))
        await asyncio.sleep(4.0)  # longer than a lease
        await cluster.kill_one()

    cluster, wrong = await run_node_rounds(tmp_path, 3, move_and_kill_one, faketime=faketime)
    told(f"3 kills, one clock moved by {off:g} s and back and again", cluster, wrong)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("bug", "expected"),
    [
        ("fence-not-checked", "ended 2 times"),
        ("lease-by-local-clock", "incarnations"),
        ("unique-key-dropped", "events"),
        ("completed-not-skipped", "ran again"),
    ],
)
async def test_the_same_rounds_find_a_planted_bug(tmp_path: Path, bug: str, expected: str) -> None:
    fault, rounds = (freeze_one(6.0), 3) if bug == "fence-not-checked" else (kill_one, 8)
    clocks = {1: _DAY} if bug == "lease-by-local-clock" else {}
    _, wrong = await run_node_rounds(tmp_path, rounds, fault, bug=bug, clocks=clocks)
    assert any(expected in line for line in wrong), wrong[:20]
