"""``hub db``: tables brought up to date, backups that restore, and a used hub that goes on in PostgreSQL."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub_process import HubProcess, hub_command

_FLOW = """id: work
namespace: shop
triggers: [{id: hook, type: webhook, key: k, dedup: {key: "{{ trigger.headers['x-delivery'] }}"}}]
tasks:
  - {id: a, type: log, message: hello}
  - {id: wait, type: flow.sleep, duration: "{{ trigger.body.sleep ?? 'PT0S' }}"}
"""
_UNSAFE = "plugins: {postgres: {allowUnsafe: true, lease: PT3S, heartbeat: PT0.5S}}\n"


def a_folder(folder: Path, *, storage: str | None = None) -> Path:
    (folder / "flows").mkdir(parents=True, exist_ok=True)
    (folder / "flows" / "work.hub.yaml").write_text(_FLOW)
    (folder / "hub.yaml").write_text((f"storage: {storage}\n" if storage else "") + _UNSAFE)
    return folder


def deliver(hub: HubProcess, number: int, **more: Any) -> str:
    body = {"n": number, "big": "x" * (100_000 if number == 1 else 1), **more}
    answer = hub.call("POST", "/api/v1/webhooks/shop/work/k", body, {"X-Delivery": str(number)})
    assert answer.status == 202, answer.raw
    execution: str = answer.json["executionIds"][0]
    return execution


def data_of(hub: HubProcess, execution: str) -> Any:
    event = hub.call("GET", f"/api/v1/executions/{execution}").json["eventId"]
    return hub.call("GET", f"/api/v1/events/{event}").json["data"]["body"]


@pytest.fixture
def used(tmp_path: Path) -> tuple[Path, list[str]]:
    """A folder whose SQLite hub has done three executions, one of a large payload, and has one asleep."""
    folder = a_folder(tmp_path / "used")
    with HubProcess(folder, flows=folder / "flows") as hub:
        done = [deliver(hub, number) for number in range(3)]
        for execution in done:
            assert hub.ended(execution)["state"] == "SUCCESS"
        asleep = deliver(hub, 3, sleep="PT3S")
    return folder, [*done, asleep]


def goes_on(folder: Path, executions: list[str]) -> None:
    """A hub over the folder's settings has all of it, ends what slept, and knows what was delivered."""
    with HubProcess(folder, flows=folder / "flows") as hub:
        assert hub.ended(executions[3])["state"] == "SUCCESS"
        items = hub.all_of("/api/v1/executions?namespace=shop")
        assert [one["id"] for one in items] == list(reversed(executions))
        assert {(one["namespace"], one["flow"]) for one in items} == {("shop", "work")}
        logs = hub.call("GET", f"/api/v1/executions/{executions[0]}/logs").json["items"]
        assert "hello" in [line["message"] for line in logs]
        assert data_of(hub, executions[1])["big"] == "x" * 100_000
        assert deliver(hub, 2) == executions[2], "a delivery that was known is known"
        assert hub.ended(deliver(hub, 99))["state"] == "SUCCESS"


def test_a_used_sqlite_hub_goes_on_in_postgres(
    tmp_path: Path, used: tuple[Path, list[str]], database: str
) -> None:
    folder, executions = used
    other = a_folder(tmp_path / "other", storage=database)
    done = hub_command("db", "copy", "--from", f"sqlite:///{folder / 'hub.db'}", "--to", database, cwd=other)
    assert done.returncode == 0, done.stderr
    assert "4 executions" in done.stdout
    goes_on(other, executions)
    again = hub_command("db", "copy", "--from", f"sqlite:///{folder / 'hub.db'}", "--to", database, cwd=other)
    assert again.returncode == 7, again.stderr
    assert "is not empty" in again.stderr


def test_the_backup_of_a_postgres_hub_that_runs_restores_anywhere(
    tmp_path: Path, used: tuple[Path, list[str]], database: str
) -> None:
    folder, executions = used
    first = a_folder(tmp_path / "first", storage=database)
    assert (
        hub_command(
            "db", "copy", "--from", f"sqlite:///{folder / 'hub.db'}", "--to", database, cwd=first
        ).returncode
        == 0
    )
    backup = tmp_path / "hub.backup"
    with HubProcess(first, flows=first / "flows"):
        done = hub_command("db", "backup", str(backup), cwd=first)
        assert done.returncode == 0, done.stderr
    second = a_folder(tmp_path / "second")
    target = f"sqlite:///{second / 'hub.db'}"
    done = hub_command("db", "copy", "--from", str(backup), "--to", target, "--data", str(second), cwd=second)
    assert done.returncode == 0, done.stderr
    goes_on(second, executions)


def test_a_backup_that_is_not_whole_restores_nothing(tmp_path: Path, used: tuple[Path, list[str]]) -> None:
    folder, _ = used
    backup, torn = tmp_path / "hub.backup", tmp_path / "torn.backup"
    assert hub_command("db", "backup", str(backup), cwd=folder).returncode == 0
    lines = gzip.decompress(backup.read_bytes()).splitlines(keepends=True)
    torn.write_bytes(gzip.compress(b"".join(lines[:-1])))
    target = a_folder(tmp_path / "target")
    done = hub_command("db", "copy", "--from", str(torn), "--to", "sqlite:///hub.db", cwd=target)
    assert done.returncode == 3, done.stderr
    assert "is not whole" in done.stderr
    end = json.loads(lines[-1])["end"]
    assert (end["executions"], end["files"]) == (4, 1)


def test_migrate_says_what_it_would_do_and_does_it(tmp_path: Path, database: str) -> None:
    folder = a_folder(tmp_path / "hub", storage=database)
    planned = hub_command("db", "migrate", "--dry-run", cwd=folder)
    assert (planned.returncode, planned.stdout) == (0, "would apply 0001_first.sql\n"), planned.stderr
    assert "pending   0001_first.sql" in hub_command("db", "status", cwd=folder).stdout
    assert hub_command("db", "migrate", cwd=folder).stdout == "apply 0001_first.sql\n"
    assert hub_command("db", "migrate", cwd=folder).stdout == "up to date: 1 steps\n"
    status = hub_command("db", "status", cwd=folder).stdout
    assert "applied   0001_first.sql" in status
    assert "type      postgres" in status


def test_the_doctor_looks_at_the_storage_of_a_hub_that_runs_and_takes_nothing_from_it(
    tmp_path: Path, database: str
) -> None:
    folder = a_folder(tmp_path / "hub", storage=database)
    with HubProcess(folder, flows=folder / "flows") as hub:
        asleep = deliver(hub, 1, sleep="PT2S")
        before = hub.call("GET", "/api/v1/nodes").json["items"]
        examined = hub_command("doctor", cwd=folder)
        assert "is up to date" in examined.stdout, examined.stdout + examined.stderr
        assert [one["number"] for one in hub.call("GET", "/api/v1/nodes").json["items"]] == [
            one["number"] for one in before
        ]
        assert hub.ended(asleep)["state"] == "SUCCESS"
        listed = hub_command("nodes", "list", cwd=folder)
        assert f"{before[0]['number']} (this)" in listed.stdout
        drained = hub_command("nodes", "drain", str(before[0]["number"]), cwd=folder)
        assert drained.returncode == 0, drained.stderr
        assert hub_command("nodes", "drain", "999999", cwd=folder).returncode == 4


def test_a_hub_that_serves_a_folder_is_not_backed_up_under_it(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "hub")
    with HubProcess(folder, flows=folder / "flows"):
        done = hub_command("db", "backup", str(tmp_path / "b"), cwd=folder)
    assert done.returncode != 0
    assert "is held by process" in done.stderr
