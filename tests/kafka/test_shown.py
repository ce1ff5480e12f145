"""What a user sees of a trigger that reads a topic: the list, the API, the metrics, the doctor."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.services.kafka import PASSWORD, USER, KafkaBroker
from tests.support.hub_process import HubProcess, hub_command
from tests.support.topics import Topics

FLOW = """\
id: orders
namespace: shop
triggers:
  - {id: stream, type: kafka.messages, topic: %s, when: "{{ trigger.value.id > 0 }}"}
tasks:
  - {id: a, type: return, value: "{{ trigger.value }}"}
"""


@pytest.fixture
def project(tmp_path: Path, broker: KafkaBroker) -> Path:
    settings = {"clusters": {"default": {"bootstrapServers": broker.bootstrap}}}
    (tmp_path / "hub.yaml").write_text(json.dumps({"flows": ["flows"], "plugins": {"kafka": settings}}))
    (tmp_path / "flows").mkdir()
    return tmp_path


async def shown(hub: HubProcess, taken: int) -> dict[str, Any]:
    """The trigger in the list, once it has taken that many records."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        [item] = (await asyncio.to_thread(hub.call, "GET", "/api/v1/triggers")).json["items"]
        source = item["source"]
        if source is not None and source["taken"] == taken and source["committedAt"] and source["lag"] == 0:
            found: dict[str, Any] = item
            return found
        await asyncio.sleep(0.1)
    raise AssertionError(item)


async def test_lag_assignment_and_what_was_taken_are_shown(project: Path, topics: Topics) -> None:
    topic = await topics.create(partitions=2)
    (project / "flows" / "orders.hub.yaml").write_text(FLOW % topic)
    await topics.put(topic, [{"id": 1}, b"no"], partition=0)
    await topics.put(topic, [{"id": 2}], partition=1)
    with HubProcess(project) as hub:
        item = await shown(hub, 3)
        metrics = (await asyncio.to_thread(hub.call, "GET", "/metrics")).raw.decode()
        listed = await asyncio.to_thread(hub_command, "triggers", "list", cwd=project)
        dead = await asyncio.to_thread(hub_command, "events", "dead", "list", "-o", "name", cwd=project)
        given = ("--with", '{"value": {"id": 3}}')
        replayed = await asyncio.to_thread(
            hub_command, "events", "dead", "replay", dead.stdout.strip(), *given, cwd=project
        )
        left = await asyncio.to_thread(hub_command, "events", "dead", "list", cwd=project)
    assert (item["state"], item["error"]) == ("running", None)
    source = item["source"]
    assert source["assignment"] == [{"part": f"{topic}/0", "lag": 0}, {"part": f"{topic}/1", "lag": 0}]
    assert (source["lag"], source["dead"]) == (0, 1)
    lines = metrics.splitlines()
    assert f'hub_trigger_lag{{part="{topic}/0",trigger="shop/orders/stream"}} 0.0' in lines
    assert 'hub_trigger_taken_total{trigger="shop/orders/stream"} 3.0' in lines
    assert 'hub_trigger_dead_total{trigger="shop/orders/stream"} 1.0' in lines
    assert 'hub_trigger_failing{trigger="shop/orders/stream"} 0.0' in lines
    assert any(line.startswith("hub_trigger_committed_timestamp_seconds{") for line in lines)
    assert "2 partitions, lag 0, 3 taken, 1 dead" in " ".join(listed.stdout.split())
    assert replayed.returncode == 0, replayed.stderr
    assert "started" in replayed.stdout
    assert "no dead letters" in left.stdout + left.stderr


async def test_the_list_says_what_is_wrong(project: Path, topics: Topics) -> None:
    (project / "flows" / "orders.hub.yaml").write_text(FLOW % "no-such-topic")
    with HubProcess(project) as hub:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            [item] = (await asyncio.to_thread(hub.call, "GET", "/api/v1/triggers")).json["items"]
            if item["state"] == "failing":
                break
            await asyncio.sleep(0.1)
        metrics = (await asyncio.to_thread(hub.call, "GET", "/metrics")).raw.decode()
        listed = await asyncio.to_thread(hub_command, "triggers", "list", cwd=project)
    assert item["error"].endswith('topic "no-such-topic" does not exist; it is read as soon as it is created')
    assert 'hub_trigger_failing{trigger="shop/orders/stream"} 1.0' in metrics.splitlines()
    assert "does not exist" in " ".join(listed.stdout.split())


def test_the_doctor_connects_to_every_cluster(tmp_path: Path, broker: KafkaBroker) -> None:
    login = {"saslMechanism": "PLAIN", "username": USER}
    clusters = {
        "default": {"bootstrapServers": broker.bootstrap},
        "away": {"bootstrapServers": "127.0.0.1:1"},
        "right": {"bootstrapServers": broker.with_login, **login, "passwordSecret": "KAFKA"},
        "wrong": {"bootstrapServers": broker.with_login, **login, "password": "wrong"},
        "nameless": {"bootstrapServers": broker.with_login, **login, "passwordSecret": "NOT_SET"},
    }
    (tmp_path / "hub.yaml").write_text(json.dumps({"plugins": {"kafka": {"clusters": clusters}}}))
    done = hub_command("doctor", "kafka", "-o", "json", cwd=tmp_path, env={"HUB_SECRET_KAFKA": PASSWORD})
    found = {one["check"]: one for one in json.loads(done.stdout)}
    assert done.returncode == 1
    assert found["cluster default"]["state"] == found["cluster right"]["state"] == "ok"
    assert f"{broker.bootstrap} answers: " in found["cluster default"]["found"]
    assert "nobody listens at 127.0.0.1:1" in found["cluster away"]["found"]
    assert "refuses the login" in found["cluster wrong"]["found"]
    assert found["cluster nameless"]["found"] == "no secret NOT_SET"
    assert PASSWORD not in done.stdout


def test_the_doctor_says_where_clusters_are_written(tmp_path: Path) -> None:
    done = hub_command("doctor", "kafka", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "bootstrapServers" in done.stdout or "clusters: {default" in done.stdout


def test_settings_that_cannot_be_used_name_the_place(tmp_path: Path) -> None:
    (tmp_path / "hub.yaml").write_text(
        "plugins:\n  kafka:\n    clusters:\n      default:\n        bootstrapServers: nowhere\n"
    )
    done = hub_command("serve", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert (
        'hub.yaml:5:27  error: plugins.kafka.clusters.default.bootstrapServers: "nowhere" is no'
        in done.stderr
    )
    shown = hub_command("config", "show", "-o", "name", cwd=tmp_path).stdout.splitlines()
    assert [name for name in shown if "kafka" in name] == ["plugins.kafka.clusters.default.bootstrapServers"]
