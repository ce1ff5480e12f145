"""Who is let in: hosts, origins, sites and tokens; before the hub is ready too."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.api.conftest import Serve

_FLOW = b"id: w\nnamespace: q\ntriggers: [{id: h, type: webhook, key: k}]\ntasks: [{id: t, type: return, value: 1}]\n"


async def test_a_webhook_of_a_hub_that_starts_is_told_to_come_again(serving: Serve) -> None:
    async with serving({"HUB_TOKEN": "let-me-in"}, running=False) as ask:
        answer = await ask("POST", "/api/v1/webhooks/q/w/k", {})
        assert (answer.status, answer.headers["retry-after"], answer.json["code"]) == (503, "1", "not_ready")
        assert (await ask("GET", "/api/v1/flows")).status == 401
        async with ask.node.running():
            await ask.node.catalog.put(_FLOW.decode())
            assert (await ask("POST", "/api/v1/webhooks/q/w/k", {})).status == 202
            assert (await ask("POST", "/api/v1/webhooks/q/none/k", {})).status == 401


@pytest.mark.parametrize(
    ("site", "status"),
    [("cross-site", 403), ("same-site", 403), ("none", 202), ("same-origin", 202), (None, 202)],
)
async def test_a_page_of_another_site_starts_nothing(serving: Serve, site: str | None, status: int) -> None:
    async with serving() as ask:
        await ask.node.catalog.put(_FLOW.decode())
        headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"} if site else {}
        assert (await ask("GET", "/api/v1/webhooks/q/w/k", headers=headers)).status == status


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("hub.example.org", 200),
        ("Hub.Example.ORG", 200),
        ("hub.example.org:443", 200),
        ("hub.example.org:80", 421),
        ("localhost:{port}", 200),
        ("LOCALHOST:{port}", 200),
        ("[::1]:{port}", 200),
        ("127.0.0.1", 421),
        ("127.0.0.1:1", 421),
        (":{port}", 421),
        ("", 421),
        ("evil.test", 421),
    ],
)
async def test_hosts_are_told_apart_by_name_and_port(serving: Serve, host: str, status: int) -> None:
    async with serving({"HUB_PUBLIC_URL": "https://Hub.Example.org/base/"}) as ask:
        given = {"Host": host.format(port=ask.port)}
        assert (await ask("GET", "/api/v1/flows", headers=given)).status == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://hub.example.org", 200),
        ("https://Hub.example.org", 200),
        ("https://hub.example.org:443", 200),
        ("http://hub.example.org", 403),
        ("http://localhost:{port}", 200),
        ("https://localhost:{port}", 403),
        ("http://127.0.0.1:{port}.evil.test", 403),
        ("null", 403),
        ("", 403),
    ],
)
async def test_origins_are_told_apart_by_scheme_too(serving: Serve, origin: str, status: int) -> None:
    async with serving({"HUB_PUBLIC_URL": "https://Hub.Example.org"}) as ask:
        given = {"Origin": origin.format(port=ask.port)}
        assert (await ask("GET", "/api/v1/flows", headers=given)).status == status


async def test_what_can_be_got_can_be_asked_for_its_head(serving: Serve) -> None:
    async with serving() as ask:
        await ask.node.catalog.put(_FLOW.decode())
        for path in ("/", "/health/live", "/health/ready", "/api/v1/flows", "/api/v1/flows/q/w"):
            answer = await ask("HEAD", path)
            assert (answer.status, answer.raw) == (200, b""), path
        webhook = await ask("HEAD", "/api/v1/webhooks/q/w/k")
        assert webhook.status == 405
        assert (await ask("GET", "/api/v1/events")).json["items"] == []
        started = (await ask("POST", "/api/v1/flows/q/w/executions", {})).json["id"]
        stream = await ask("HEAD", f"/api/v1/executions/{started}/stream")
        assert (stream.status, stream.raw) == (200, b"")


async def test_a_stream_has_the_headers_of_every_answer(serving: Serve) -> None:
    async with serving() as ask:
        await ask.node.catalog.put(_FLOW.decode())
        started = (await ask("POST", "/api/v1/flows/q/w/executions", {})).json["id"]
        stream = await ask("GET", f"/api/v1/executions/{started}/stream")
        assert stream.headers["x-content-type-options"] == "nosniff"
        assert stream.headers["cache-control"] == "no-store"


async def test_a_secret_in_an_address_is_not_said_back(serving: Serve) -> None:
    async with serving({"HUB_SECRET_KEY": "a-long-secret"}) as ask:
        answer = await ask("GET", "/api/v1/webhooks/q/w/a-long-secret/more")
        assert answer.status == 404
        assert b"a-long-secret" not in answer.raw


async def test_a_host_that_others_reach_needs_a_token(serving: Serve) -> None:
    from hub.errors import InvalidSettings

    with pytest.raises(InvalidSettings, match=r"HUB_HOST 0\.0\.0\.0 is reachable"):
        async with serving({"HUB_HOST": "0.0.0.0"}):
            pass


async def test_the_largest_body_is_the_settings(serving: Serve, tmp_path: Path) -> None:
    (tmp_path / "hub.yaml").write_text("limits: {bodyBytes: 2048}\n")
    async with serving() as ask:
        await ask.node.catalog.put(
            "id: w\nnamespace: q\ntriggers: [{id: h, type: webhook, key: k}]\ntasks: [{id: a, type: log, message: x}]\n"
        )
        headers = {"Content-Type": "text/plain"}
        assert (await ask("POST", "/api/v1/webhooks/q/w/k", b"x" * 2048, headers)).status == 202
        assert (await ask("POST", "/api/v1/webhooks/q/w/k", b"x" * 2049, headers)).status == 413
