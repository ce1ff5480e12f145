"""The blueprints about Kafka, used as their pages say, with a broker and a producer that are not ours."""

from __future__ import annotations

import asyncio
import csv
import json
import re
from pathlib import Path

import pytest

from tests.services.kafka import KafkaBroker
from tests.support.following import ends_of
from tests.support.hub_process import HubProcess, hub_command
from tests.support.topics import Topics, headers_of

BLUEPRINTS = Path(__file__).parent.parent.parent / "blueprints"


class Project:
    """A folder with the flows of one blueprint, its topics under names of this test's own."""

    def __init__(self, folder: Path, broker: KafkaBroker, blueprint: str, *topics: str) -> None:
        self.folder = folder
        [settings] = re.findall(
            r"```yaml\n(.*?)```", (BLUEPRINTS / blueprint / "README.md").read_text(), re.S
        )
        assert "127.0.0.1:9092" in settings
        (folder / "hub.yaml").write_text(
            settings.replace("127.0.0.1:9092", broker.bootstrap).replace("   ", " ")
        )
        done = hub_command("blueprints", "use", blueprint, cwd=folder)
        assert done.returncode == 0, done.stderr
        self.topics = {topic: f"{folder.name}-{topic}" for topic in topics}
        for topic in sorted(topics, key=len, reverse=True):
            self.edit(f"topic: {topic}\n", f"topic: {self.topics[topic]}\n")
        broker.create(*self.topics.values())

    def edit(self, old: str, new: str) -> None:
        for path in (self.folder / "flows").iterdir():
            path.write_text(path.read_text().replace(old, new))


async def test_orders_are_checked_joined_and_written_on(
    tmp_path: Path, broker: KafkaBroker, topics: Topics
) -> None:
    project = await asyncio.to_thread(
        Project, tmp_path, broker, "kafka-enrich", "orders", "orders-enriched", "orders-dead"
    )
    lines = [
        'ada:{"id": 7, "customer": "ada", "total": 12.5}',
        'bob:{"id": 8, "customer": "bob", "total": -1}',
        "eve:no json",
    ]
    # the port is known only once it serves
    with HubProcess(tmp_path) as hub:
        hub.stop()
        project.edit("127.0.0.1:8484", f"127.0.0.1:{hub.port}")
        hub.start()
        with ends_of(hub, "demo.kafka") as ends:
            await asyncio.to_thread(
                broker.produce, project.topics["orders"], lines, "parse.key=true", "key.separator=:"
            )
            ended = [await asyncio.to_thread(ends.next) for _ in range(3)]
        dead = await asyncio.to_thread(hub_command, "events", "dead", "list", "-o", "json", cwd=tmp_path)
    states = sorted((one["flow"], one["state"]) for one in ended)
    assert states == [("customers", "SUCCESS"), ("enrich", "FAILED"), ("enrich", "SUCCESS")]
    [enriched] = await topics.read(project.topics["orders-enriched"], 1)
    assert enriched.key == b"ada"
    assert json.loads(enriched.value) == {
        "order": {"id": 7, "customer": "ada", "total": 12.5},
        "customer": {"id": "ada", "country": "FR"},
    }
    [refused] = await topics.read(project.topics["orders-dead"], 1)
    assert json.loads(refused.value) == {"id": 8, "customer": "bob", "total": -1}
    assert b"$.total" in headers_of(refused)["reason"]
    assert [one["data"]["error"][:21] for one in json.loads(dead.stdout)] == ["its value is not JSON"]


@pytest.mark.parametrize("count", [3, 500], ids=["inline", "file"])
async def test_readings_go_through_a_script_batch_by_batch(
    tmp_path: Path, broker: KafkaBroker, topics: Topics, count: int
) -> None:
    project = await asyncio.to_thread(Project, tmp_path, broker, "kafka-batches", "readings")
    padding = "x" * 200
    lines = [
        json.dumps({"sensor": "ab"[number % 2], "reading": number, "note": padding})
        for number in range(count)
    ]
    await asyncio.to_thread(broker.produce, project.topics["readings"], lines)
    with HubProcess(tmp_path) as hub, ends_of(hub, "demo.kafka") as ends:
        ended = await asyncio.to_thread(ends.next)
    assert (ended["state"], ended["outputs"]) == ("SUCCESS", {"count": count})
    [file] = (tmp_path / "sums").iterdir()
    assert file.name == f"{project.topics['readings']}-0-0.csv"
    found = {sensor: float(total) for sensor, total in csv.reader(file.read_text().splitlines())}
    assert found == {"a": float(sum(range(0, count, 2))), "b": float(sum(range(1, count, 2)))}


async def test_what_is_posted_lies_in_a_topic_as_a_cloud_event(
    tmp_path: Path, broker: KafkaBroker, topics: Topics
) -> None:
    project = await asyncio.to_thread(Project, tmp_path, broker, "webhook-to-kafka", "intake")
    with HubProcess(tmp_path) as hub:
        path = "/api/v1/webhooks/demo.kafka/intake/intake"
        answer = await asyncio.to_thread(hub.call, "POST", path, {"id": "7", "total": 12.5})
    assert (answer.status, answer.json) == (202, {"partition": 0, "offset": 0})
    [record] = await topics.read(project.topics["intake"], 1)
    headers = headers_of(record)
    assert (record.key, json.loads(record.value)) == (b"7", {"id": "7", "total": 12.5})
    assert (headers["ce_type"], headers["ce_specversion"]) == (b"com.example.intake.received", b"1.0")
