"""Files that come to a webhook, over real HTTP: where they go, who may use them, how long they stay."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import shutil
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hub.engine.retention import Retention, RetentionRule
from hub.errors import NotFound
from hub.model.execution import Execution, ExecutionState
from hub.testing import Harness
from tests.api.conftest import Asking, Said, Serve

PHOTO = bytes(range(256)) * 300
HOOK = "/api/v1/webhooks/q/w/k"


def flow(*tasks: str, hook: str = "", id: str = "w") -> str:
    listed = "".join(f"  - {{{task}}}\n" for task in tasks) or "  - {id: t, type: return, value: 1}\n"
    return f"id: {id}\nnamespace: q\ntriggers: [{{id: hook, type: webhook, key: k{hook}}}]\ntasks:\n{listed}"


async def post(ask: Asking, form: Any, headers: Mapping[str, str] | None = None, path: str = HOOK) -> Said:
    async with ask.session.post(ask.url + path, data=form, headers=headers) as answer:
        return Said(answer.status, {k.lower(): v for k, v in answer.headers.items()}, await answer.read())


def a_form(content: bytes = PHOTO, name: str = "photo.jpg") -> aiohttp.FormData:
    form = aiohttp.FormData()
    form.add_field("title", "naïve")
    form.add_field("tag", "a")
    form.add_field("tag", "b")
    form.add_field("photo", content, filename=name, content_type="image/jpeg")
    return form


async def seen(ask: Asking, answer: Said) -> Any:
    assert answer.status == 202, answer.raw
    return (await ask("GET", f"/api/v1/events/{answer.json['eventId']}")).json["data"]


async def ended(ask: Asking, answer: Said) -> Execution:
    assert answer.status == 202, answer.raw
    return await Harness(ask.node).ended(answer.json["executionIds"][0])


async def outputs(ask: Asking, answer: Said) -> dict[str, Any]:
    """What each task gave."""
    execution = await ended(ask, answer)
    assert execution.state is ExecutionState.SUCCESS, execution.error
    runs = await Harness(ask.node).task_runs(execution.id)
    return {path: dict(run.outputs or {}) for path, run in runs.items()}


def files_of(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "files").rglob("*") if path.is_file()]


async def test_a_form_with_a_file_shows_fields_and_where_the_file_lies(serving: Serve) -> None:
    async with serving() as ask:
        await ask.node.catalog.put(flow())
        answer = await post(ask, a_form())
        body = (await seen(ask, answer))["body"]
        uri = body["photo"].pop("uri")
        assert body == {
            "title": "naïve",
            "tag": ["a", "b"],
            "photo": {
                "name": "photo.jpg",
                "contentType": "image/jpeg",
                "size": len(PHOTO),
                "sha256": hashlib.sha256(PHOTO).hexdigest(),
            },
        }
        assert answer.json["eventId"] in uri
        assert await ask.node.services.payloads.store.get(uri) == PHOTO


@pytest.mark.parametrize("kind", ["image/jpeg", "application/octet-stream"])
async def test_a_binary_body_is_a_file(serving: Serve, kind: str) -> None:
    async with serving() as ask:
        await ask.node.catalog.put(flow())
        body = (await seen(ask, await post(ask, PHOTO, {"Content-Type": kind})))["body"]
        assert await ask.node.services.payloads.store.get(body.pop("uri")) == PHOTO
        assert body == {
            "contentType": kind,
            "size": len(PHOTO),
            "sha256": hashlib.sha256(PHOTO).hexdigest(),
        }


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
async def test_what_curl_sends_is_read(serving: Serve, tmp_path: Path) -> None:
    async with serving() as ask:
        await ask.node.catalog.put(flow())
        (tmp_path / "a b.bin").write_bytes(PHOTO)
        process = await asyncio.create_subprocess_exec(
            "curl", "-sS", "-F", 'note=say "hi"', "-F", 'meta={"n": 1};type=application/json',
            "-F", f'one=@"{tmp_path}/a b.bin"', "-F", f'one=@"{tmp_path}/a b.bin";filename=../../évil.sh',
            ask.url + HOOK, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        said, _ = await process.communicate()
        body = (await seen(ask, Said(202, {}, said)))["body"]
        assert (body["note"], body["meta"]) == ('say "hi"', {"n": 1})
        assert [one["name"] for one in body["one"]] == ["a b.bin", "évil.sh"]
        assert {one["sha256"] for one in body["one"]} == {hashlib.sha256(PHOTO).hexdigest()}


async def test_tasks_use_the_file_by_its_uri(serving: Serve, tmp_path: Path) -> None:
    table = b"name,n\nada,1\nbob,2\n"
    uri = "'{{ trigger.body.table.uri }}'"
    async with serving() as ask:
        await ask.node.catalog.put(flow(id="sink"))
        await ask.node.catalog.put(
            flow(
                f"id: shell, type: script.shell, script: 'wc -c < t.csv', inputFiles: {{t.csv: {uri}}}",
                f"id: csv, type: csv.read, path: {uri}",
                f"id: read, type: file.read, path: {uri}",
                f"id: write, type: file.write, path: out/kept.csv, uri: {uri}",
                f"id: more, type: file.write, path: out/kept.csv, uri: {uri}, append: true",
                f"id: send, type: http.request, method: POST, uri: '{ask.url}/api/v1/webhooks/q/sink/k',"
                f" file: {uri}, headers: {{Content-Type: application/x-thing}}",
            )
        )
        form = aiohttp.FormData()
        form.add_field("table", table, filename="t.csv", content_type="text/csv")
        found = await outputs(ask, await post(ask, form))
        assert found["csv"]["rows"] == [{"name": "ada", "n": "1"}, {"name": "bob", "n": "2"}]
        assert found["read"]["content"].encode() == table
        assert found["write"]["size"] == len(table)
        assert (tmp_path / "out" / "kept.csv").read_bytes() == table * 2
        sent = await ask("GET", f"/api/v1/events/{found['send']['json']['eventId']}")
        body = sent.json["data"]["body"]
        assert (body["contentType"], body["sha256"]) == (
            "application/x-thing",
            hashlib.sha256(table).hexdigest(),
        )


async def test_a_signature_is_over_the_bytes_of_the_form(serving: Serve) -> None:
    hook = ", verify: {scheme: hmac, secret: s3cret}"
    async with serving() as ask:
        await ask.node.catalog.put(flow(hook=hook))
        raw = b'--X\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n\xff\r\n--X--\r\n'
        headers = {"Content-Type": "multipart/form-data; boundary=X"}
        sign = hmac.new(b"s3cret", raw, hashlib.sha256).hexdigest()
        assert (await ask("POST", HOOK, raw, headers)).status == 401
        assert (await ask("POST", HOOK, raw + b"\r\n", {**headers, "X-Signature": sign})).status == 401
        answer = await ask("POST", HOOK, raw, {**headers, "X-Signature": sign})
        assert (await seen(ask, answer))["body"]["f"]["size"] == 1


async def test_nothing_is_kept_of_a_request_that_is_refused(serving: Serve, tmp_path: Path) -> None:
    async with serving() as ask:
        await ask.node.catalog.put(flow(hook=", rateLimit: {limit: 1, per: PT1H}"))
        broken = b'--X\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n\xff\r\n--X'
        answer = await ask("POST", HOOK, broken, {"Content-Type": "multipart/form-data; boundary=X"})
        assert (answer.status, answer.json["code"]) == (400, "bad_request")
        assert "cut off" in answer.json["message"]
        assert (await post(ask, a_form())).status == 429
        assert files_of(tmp_path) == []


async def test_the_body_limit_holds_for_files(serving: Serve, tmp_path: Path) -> None:
    async with serving() as ask:
        await ask.node.catalog.put(flow())
        assert (await post(ask, a_form(b"\xff" * (1024 * 1024)))).status == 413
        assert (await post(ask, b"\xff" * (1024 * 1024 + 1), {"Content-Type": "image/png"})).status == 413
        assert files_of(tmp_path) == []


async def test_a_repeat_of_a_form_is_known_whatever_its_boundary(serving: Serve) -> None:
    hook = ", dedup: {key: \"{{ trigger.headers['x-id'] }}\"}"
    async with serving() as ask:
        await ask.node.catalog.put(flow(hook=hook))
        first = await post(ask, a_form(), {"X-Id": "1"})
        again = await post(ask, a_form(), {"X-Id": "1"})
        other = await post(ask, a_form(PHOTO + b"x"), {"X-Id": "1"})
        assert again.json == {**first.json, "duplicate": True}
        assert other.status == 409


async def test_a_hostile_name_leads_nowhere(serving: Serve, tmp_path: Path) -> None:
    async with serving() as ask:
        await ask.node.catalog.put(flow("id: n, type: return, value: '{{ trigger.body.f.name }}'"))
        for given, name in (
            ("../../../evil", "evil"),
            ("a\x00b", "ab"),
            ("..", "file"),
            ("C:\\x\\y.z", "y.z"),
        ):
            raw = b'--X\r\nContent-Disposition: form-data; name="f"; filename="%b"\r\n\r\n\xff\r\n--X--\r\n'
            answer = await ask(
                "POST", HOOK, raw % given.encode(), {"Content-Type": "multipart/form-data; boundary=X"}
            )
            assert (await outputs(ask, answer))["n"]["value"] == name
        assert all(path.is_relative_to(tmp_path / "files") for path in files_of(tmp_path))
        assert len(files_of(tmp_path)) == 4


@pytest.mark.parametrize("storage", ["memory:", "sqlite:///hub.db"])
async def test_a_file_stays_as_long_as_its_event_and_every_replay(
    serving: Serve, storage: str, tmp_path: Path
) -> None:
    none = timedelta(microseconds=-1)
    async with serving(storage=storage) as ask:
        uri = "'{{ trigger.body.photo.uri }}'"
        await ask.node.catalog.put(flow(f"id: r, type: file.read, path: {uri}, encoding: base64"))
        answer = await post(ask, a_form(b"\x00\xff"))
        first = (await outputs(ask, answer))["r"]["content"]
        replayed = await ask("POST", f"/api/v1/events/{answer.json['eventId']}/replay")
        assert (await outputs(ask, replayed))["r"]["content"] == first
        again = await ask("POST", f"/api/v1/executions/{answer.json['executionIds'][0]}/replay", {})
        assert (await Harness(ask.node).ended(again.json["id"])).state is ExecutionState.SUCCESS
        keep = Retention(ask.node.services, [RetentionRule(executions=None, events=none)])
        await keep.clear_up()
        assert len([path for path in files_of(tmp_path) if "photo" in path.name]) == 1
        drop = Retention(ask.node.services, [RetentionRule(executions=none, events=none)])
        await drop.clear_up()
        await drop.clear_up()  # the first event goes after those that repeat it
        assert files_of(tmp_path) == []
        with pytest.raises(NotFound):
            await ask.node.services.storage.event(answer.json["eventId"])


async def test_a_file_store_that_is_full_is_503_and_nothing_is_acknowledged(
    serving: Serve, tmp_path: Path
) -> None:
    async with serving() as ask:
        await ask.node.catalog.put(flow())
        (tmp_path / "files").write_text("in the way")
        answer = await post(ask, a_form())
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert (await ask("GET", "/api/v1/events")).json["items"] == []
