"""kill -9 of the hub and of the broker under a stream of records, foreign members of the group, poison by the hundred."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.kafka_node_rounds import NodeLedger, run_kafka_node_rounds
from tests.faults.kafka_poison import run_poison
from tests.faults.kafka_rounds import Ledger, Plan, run_rounds

BUGS = {
    "commit-before-the-row": "lost",
    "auto-commit-on": "lost",
    "next-offset-not-checked": "taken twice",
    "order-ignored": "before the one before them had ended",
}


def check(ledger: Ledger, plan: Plan) -> None:
    print(
        f"kafka ledger: {plan.hub_kills} kills of the hub, {plan.broker_kills} of the broker, {ledger.sent} records in"
        f" {plan.partitions} partitions, {ledger.events} events, {len(ledger.strangers)} taken by others of the group,"
        f" {len(ledger.wrong)} promises broken"
    )
    assert not ledger.wrong, "\n".join(ledger.wrong[:20])
    assert ledger.sent == plan.records
    assert ledger.events + len(ledger.strangers) >= plan.records


@pytest.mark.timeout(300)
async def test_a_few_kills_lose_no_record_repeat_none_and_keep_the_order(tmp_path: Path) -> None:
    plan = Plan(records=4_000, partitions=4, hub_kills=3, broker_kills=1)
    check(await run_rounds(tmp_path, plan), plan)


@pytest.mark.faults
async def test_thirty_kills_of_the_hub_and_twenty_of_the_broker_lose_no_record(tmp_path: Path) -> None:
    plan = Plan(records=200_000, partitions=12, hub_kills=30, broker_kills=20)
    check(await run_rounds(tmp_path, plan, patience=900), plan)


@pytest.mark.timeout(300)
async def test_a_few_kills_lose_no_record_of_a_batch_repeat_none_and_keep_the_order(tmp_path: Path) -> None:
    plan = Plan(records=4_000, partitions=3, hub_kills=4, broker_kills=1, batches_of=40)
    check(await run_rounds(tmp_path, plan), plan)


@pytest.mark.faults
async def test_kills_under_batches_for_a_hundred_thousand_records_lose_none(tmp_path: Path) -> None:
    plan = Plan(records=100_000, partitions=6, hub_kills=20, broker_kills=10, batches_of=100)
    check(await run_rounds(tmp_path, plan, patience=900), plan)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("bug", BUGS)
async def test_the_same_rounds_find_a_planted_bug(tmp_path: Path, bug: str) -> None:
    kills = 0 if bug == "order-ignored" else 2
    # each kill falls into a hub that reads
    plan = Plan(records=1_600, partitions=3, hub_kills=kills, between=(2.0, 3.0))
    ledger = await run_rounds(tmp_path, plan, bug=bug, patience=4)
    assert any(BUGS[bug] in line for line in ledger.wrong), ledger.wrong[:20]


@pytest.mark.timeout(300)
async def test_a_foreign_member_that_comes_and_goes_takes_what_is_its_own_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    plan = Plan(records=2_000, partitions=4, hub_kills=0, with_stranger=True, lasting=10)
    ledger = await run_rounds(tmp_path, plan)
    check(ledger, plan)
    assert ledger.strangers, "the foreign member took nothing: nothing was shown"


@pytest.mark.faults
async def test_a_foreign_member_that_comes_and_goes_for_two_minutes(tmp_path: Path) -> None:
    plan = Plan(records=20_000, partitions=12, hub_kills=3, with_stranger=True, lasting=120)
    check(await run_rounds(tmp_path, plan), plan)


@pytest.mark.timeout(300)
async def test_one_record_in_a_hundred_is_poison_and_no_partition_waits(tmp_path: Path) -> None:
    await run_poison(tmp_path, records=5_000)


@pytest.mark.faults
async def test_one_record_in_a_hundred_of_fifty_thousand_is_poison(tmp_path: Path) -> None:
    await run_poison(tmp_path, records=50_000)


# several hubs, one PostgreSQL


def check_nodes(ledger: NodeLedger, plan: Plan, members: int) -> None:
    print(
        f"kafka ledger over three hubs: {ledger.kills} kills, {ledger.rebalances} rebalances by others, {ledger.sent}"
        f" records in {plan.partitions} partitions, {ledger.events} events, {ledger.called} calls,"
        f" {len(ledger.wrong)} promises broken"
    )
    assert not ledger.wrong, "\n".join(ledger.wrong[:20])
    assert ledger.sent == plan.records == ledger.events
    assert ledger.rebalances > members


@pytest.mark.timeout(300)
async def test_three_hubs_lose_no_record_repeat_none_and_keep_the_order(tmp_path: Path) -> None:
    plan = Plan(records=2_000, partitions=4, hub_kills=2)
    check_nodes(await run_kafka_node_rounds(tmp_path, plan, members=2), plan, 2)


@pytest.mark.faults
@pytest.mark.timeout(5400)
async def test_sixty_rebalances_and_twenty_kills_of_three_hubs_lose_no_record(tmp_path: Path) -> None:
    plan = Plan(records=200_000, partitions=12, hub_kills=20, between=(1.0, 6.0), lasting=240)
    check_nodes(await run_kafka_node_rounds(tmp_path, plan, members=30, patience=3_600), plan, 30)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("bug", "said"), [("order-ignored", "under way"), ("next-offset-not-checked", "taken twice")]
)
async def test_the_rounds_over_three_hubs_find_a_planted_bug(tmp_path: Path, bug: str, said: str) -> None:
    plan = Plan(records=1_600, partitions=3, hub_kills=2, between=(2.0, 3.0))
    ledger = await run_kafka_node_rounds(tmp_path, plan, members=1, bug=bug, patience=6)
    assert any(said in line for line in ledger.wrong), ledger.wrong[:20]
