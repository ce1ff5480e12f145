"""``email``: mail through a real server with TLS and logins, read back and compared; nothing is lost, whatever it does."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
import structlog

from hub.errors import InvalidSettings
from hub.plugin import NoticeState
from hub.testing import Harness, VirtualClock, harness
from tests.support.mail_server import PASSWORD, USER, MailServer, mail_server

ROOT = Path(__file__).parent.parent.parent
_N = NoticeState
TELL = "id: f\nnamespace: t\ntasks: [{id: a, type: notify, to: oncall, subject: Grüße, message: hello}]\n"


def settings_for(server: MailServer, tls: str = "starttls", **more: Any) -> dict[str, Any]:
    own = {
        "type": "email",
        "to": ["Ada <ada@example.org>", "bob@example.org"],
        "from": "Hub <hub@example.org>",
        "host": "localhost",
        "port": server.port,
        "tls": tls,
        "caFile": server.ca_file,
        "username": USER,
        "password": "{{ secret('SMTP') }}",
        "schedule": ["1m", "5m"],
        **more,
    }
    return {"notifiers": {"oncall": {name: value for name, value in own.items() if value is not None}}}


@asynccontextmanager
async def hub_with(
    folder: Path, settings: Mapping[str, Any], **more: Any
) -> AsyncIterator[tuple[Harness, VirtualClock]]:
    clock = VirtualClock()
    environ = {"HUB_SECRET_SMTP": PASSWORD}
    async with harness(folder, settings=settings, clock=clock, environ=environ, **more) as hub:
        yield hub, clock


@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_a_mail_arrives_over_tls_with_a_login_as_it_was_meant(
    tmp_path: Path, tls: Literal["starttls", "tls"]
) -> None:
    source = (
        "id: f\nnamespace: t\ntasks:\n"
        "  - {id: w, type: script.shell, script: \"printf 'a;b\\\\n1;ü\\\\n' > out.csv\", outputFiles: [out.csv]}\n"
        "  - {id: a, type: notify, to: oncall, subject: 'Grüße, {{ flow.id }}', message: \"Zeile 1\\n.\\nZeile 3 €\","
        " html: '<p>Grüße</p>', attachments: [\"{{ outputs.w.files['out.csv'] }}\"]}\n"
    )
    async with mail_server(tmp_path, tls) as server:
        given = settings_for(
            server, tls, cc=["cc@example.org"], bcc=["bcc@example.org"], replyTo="r@example.org"
        )
        async with hub_with(tmp_path, given) as (hub, clock):
            await hub.put(source)
            execution = await hub.run("t/f")
            assert execution.state == "SUCCESS", execution.error
            [notice] = await hub.notices()
            assert (notice.state, notice.error) == (_N.DELIVERED, None)
            now = clock.now()
    [one] = server.received
    assert one.sender == "hub@example.org"
    assert one.recipients == ["ada@example.org", "bob@example.org", "cc@example.org", "bcc@example.org"]
    assert (one.login, one.is_private) == (USER, True)
    mail = one.mail
    assert mail["Subject"] == "Grüße, f"
    assert (mail["From"], mail["Cc"], mail["Reply-To"]) == (
        "Hub <hub@example.org>",
        "cc@example.org",
        "r@example.org",
    )
    assert mail["To"] == "Ada <ada@example.org>, bob@example.org"
    assert mail["Bcc"] is None
    assert mail["Message-ID"] == f"<{notice.id}@example.org>"
    assert mail["Date"].datetime == now
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text is not None
    assert html is not None
    assert text.get_content().splitlines() == ["Zeile 1", ".", "Zeile 3 €"]
    assert html.get_content().strip() == "<p>Grüße</p>"
    [attached] = mail.iter_attachments()
    assert (attached.get_filename(), attached.get_content_type()) == ("out.csv", "text/csv")
    assert attached.get_payload(decode=True) == "a;b\n1;ü\n".encode()


async def test_the_server_of_the_settings_is_used_where_a_notifier_names_none(tmp_path: Path) -> None:
    async with mail_server(tmp_path) as server:
        given = {
            "plugins": {
                "email": {
                    "host": "localhost",
                    "port": server.port,
                    "caFile": server.ca_file,
                    "username": USER,
                    "passwordSecret": "SMTP",
                    "from": "hub@example.org",
                }
            },
            "notifiers": {"oncall": {"type": "email", "to": "ops@example.org"}},
        }
        async with hub_with(tmp_path, given) as (hub, _):
            await hub.put(TELL)
            await hub.run("t/f")
            [notice] = await hub.notices()
            assert (notice.state, notice.error) == (_N.DELIVERED, None)
    assert [one.recipients for one in server.received] == [["ops@example.org"]]


async def test_a_server_that_dies_before_it_answers_gets_the_same_mail_again(tmp_path: Path) -> None:
    async with mail_server(tmp_path) as server:
        server.answers = ["die"]
        async with hub_with(tmp_path, settings_for(server)) as (hub, clock):
            await hub.put(TELL)
            await hub.run("t/f")
            [notice] = await hub.notices()
            assert (notice.state, notice.attempts) == (_N.OWED, 1)
            clock.advance(timedelta(minutes=2))
            [notice] = await hub.notices()
            assert notice.state is _N.DELIVERED
    first, second = server.received
    assert first.raw == second.raw
    assert list(server.ids()) == [f"<{notice.id}@example.org>"]


async def test_a_server_that_dies_after_its_answer_gets_nothing_again(tmp_path: Path) -> None:
    async with mail_server(tmp_path) as server:

        async def handle_QUIT(smtp: Any, session: Any, envelope: Any) -> str:
            smtp.transport.abort()
            return "221 never heard"

        server.handle_QUIT = handle_QUIT  # type: ignore[attr-defined]
        async with hub_with(tmp_path, settings_for(server)) as (hub, _):
            await hub.put(TELL)
            await hub.run("t/f")
            [notice] = await hub.notices()
            assert (notice.state, notice.attempts) == (_N.DELIVERED, 0)
    assert len(server.received) == 1


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ("451 try later", _N.OWED),
        ("421 closing", _N.OWED),
        ("550 not here", _N.DEAD),
        ("552 too big", _N.DEAD),
    ],
)
async def test_what_a_refusal_means(tmp_path: Path, answer: str, state: NoticeState) -> None:
    async with mail_server(tmp_path) as server:
        server.answers = [answer]
        async with hub_with(tmp_path, settings_for(server)) as (hub, clock):
            await hub.put(TELL)
            assert (await hub.run("t/f")).state == "SUCCESS"
            [notice] = await hub.notices()
            assert notice.state is state
            assert f"refuses the mail: {answer}" in (notice.error or "")
            clock.advance(timedelta(minutes=2))
            if state is _N.DEAD:
                await hub.node.notifications.retry(notice.id)
            [notice] = await hub.notices()
            assert notice.state is _N.DELIVERED
    assert len(server.received) == 1


async def test_one_refused_recipient_does_not_keep_the_others_from_it(tmp_path: Path) -> None:
    async with mail_server(tmp_path) as server:
        server.refused = {"bob@example.org": "450 mailbox busy"}
        async with hub_with(tmp_path, settings_for(server)) as (hub, clock):
            await hub.put(TELL)
            await hub.run("t/f")
            [notice] = await hub.notices()
            assert notice.state is _N.OWED
            assert "bob@example.org: 450 mailbox busy" in (notice.error or "")
            server.refused = {"bob@example.org": "550 no such mailbox"}
            clock.advance(timedelta(minutes=2))
            [notice] = await hub.notices()
            assert notice.state is _N.DEAD
            server.refused = {}
            await hub.node.notifications.retry(notice.id)
            [notice] = await hub.notices()
            assert notice.state is _N.DELIVERED
    assert [one.recipients for one in server.received] == [["ada@example.org"], ["bob@example.org"]]
    assert len(server.ids()) == 1


async def test_a_server_that_is_away_is_waited_for(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    away = MailServer(port=port, ca_file=str(tmp_path / "ca.pem"))
    (tmp_path / "ca.pem").write_text("")
    async with mail_server(tmp_path) as other:
        # for its certificates alone
        away.ca_file = other.ca_file
    storage = f"sqlite:///{tmp_path / 'hub.db'}"
    async with hub_with(tmp_path, settings_for(away), storage=storage) as (hub, clock):
        await hub.put(TELL)
        await hub.run("t/f")
        [notice] = await hub.notices()
        assert notice.state is _N.OWED
        assert f"localhost:{port}" in (notice.error or "")
    async with (
        mail_server(tmp_path, port=port) as server,
        hub_with(tmp_path, settings_for(server), storage=storage) as (hub, clock),
    ):
        clock.advance(timedelta(minutes=2))
        [notice] = await hub.notices()
        assert notice.state is _N.DELIVERED
        assert len(server.received) == 1


async def test_a_server_that_never_answers_is_given_a_time(tmp_path: Path) -> None:
    async with mail_server(tmp_path) as server:
        server.answers = ["stall"]
        async with hub_with(tmp_path, settings_for(server, timeout="1s")) as (hub, clock):
            await hub.put(TELL)
            await hub.run("t/f")
            [notice] = await hub.notices()
            assert (notice.state, notice.attempts) == (_N.OWED, 1)
            clock.advance(timedelta(minutes=2))
            [notice] = await hub.notices()
            assert notice.state is _N.DELIVERED
    assert len(server.received) == 2
    assert len(server.ids()) == 1


async def test_a_wrong_password_is_waited_for_and_never_shown(tmp_path: Path) -> None:
    async with mail_server(tmp_path) as server:
        given = settings_for(server, password="{{ secret('WRONG') }}")
        clock = VirtualClock()
        environ = {"HUB_SECRET_WRONG": "not it at all"}
        with structlog.testing.capture_logs() as logs:
            async with harness(tmp_path, settings=given, clock=clock, environ=environ) as hub:
                await hub.put(TELL)
                await hub.run("t/f")
                [notice] = await hub.notices()
                assert notice.state is _N.OWED
                assert "refuses the login" in (notice.error or "")
        assert "not it at all" not in str(logs)
    assert server.received == []


async def test_a_server_that_takes_nobody_today_is_tried_again(tmp_path: Path) -> None:
    async with mail_server(tmp_path) as server:

        async def handle_EHLO(
            smtp: Any, session: Any, envelope: Any, name: str, answers: list[str]
        ) -> list[str]:
            return ["554 no mail today"]

        server.handle_EHLO = handle_EHLO  # type: ignore[attr-defined]
        async with hub_with(tmp_path, settings_for(server)) as (hub, clock):
            await hub.put(TELL)
            await hub.run("t/f")
            [notice] = await hub.notices()
            assert (notice.state, notice.attempts) == (_N.OWED, 1)
            del server.handle_EHLO  # type: ignore[attr-defined]
            clock.advance(timedelta(minutes=2))
            assert [one.state for one in await hub.notices()] == [_N.DELIVERED]


async def test_a_server_without_starttls_gets_neither_password_nor_mail(tmp_path: Path) -> None:
    async with (
        mail_server(tmp_path, "none", logins=False) as server,
        hub_with(tmp_path, settings_for(server)) as (hub, _),
    ):
        await hub.put(TELL)
        await hub.run("t/f")
        [notice] = await hub.notices()
        assert (notice.state, notice.attempts) == (_N.OWED, 1)
    assert server.received == []


async def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    async with (
        mail_server(tmp_path) as server,
        hub_with(tmp_path, settings_for(server, caFile=None)) as (hub, _),
    ):
        await hub.put(TELL)
        await hub.run("t/f")
        [notice] = await hub.notices()
        assert notice.state is _N.OWED
        assert "certificate" in (notice.error or "").lower()
    assert server.received == []


async def test_a_file_of_certificates_that_is_none_is_said(tmp_path: Path) -> None:
    async with mail_server(tmp_path) as server:
        for name, message in (("nothing.pem", "cannot be read"), ("hub.txt", "holds no certificates")):
            (tmp_path / "hub.txt").write_text("none")
            folder = tmp_path / name.split(".")[0]
            folder.mkdir()
            async with hub_with(folder, settings_for(server, caFile=str(tmp_path / name))) as (hub, _):
                await hub.put(TELL)
                await hub.run("t/f")
                [notice] = await hub.notices()
                assert notice.state is _N.OWED
                assert message in (notice.error or "")


async def test_an_attachment_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    source = TELL.replace("message: hello", "message: hello, attachments: ['hub:///ab/x/a.csv']")
    async with mail_server(tmp_path) as server, hub_with(tmp_path, settings_for(server)) as (hub, _):
        await hub.put(source)
        await hub.run("t/f")
        [notice] = await hub.notices()
        assert notice.state is _N.DELIVERED
    assert "(a.csv is not there any more)" in server.received[0].mail.get_content()


async def test_many_go_out_side_by_side_and_each_once(tmp_path: Path) -> None:
    async with mail_server(tmp_path) as server, hub_with(tmp_path, settings_for(server)) as (hub, _):
        await hub.put(TELL)
        await asyncio.gather(*(hub.run("t/f") for _ in range(30)))
        assert {one.state for one in await hub.notices()} == {_N.DELIVERED}
    assert sorted(server.ids().values()) == [1] * 30


async def test_the_blueprint_sends_its_report(tmp_path: Path) -> None:
    source = (ROOT / "blueprints" / "mail-report" / "report.hub.yaml").read_text()
    async with mail_server(tmp_path) as server:
        given = settings_for(server)
        given["notifiers"]["readers"] = given["notifiers"]["oncall"]
        async with hub_with(tmp_path, given) as (hub, _):
            await hub.put(source)
            execution = await hub.run("demo.mail/report", {"day": "<Monday>"})
            assert execution.state == "SUCCESS", execution.error
            assert [one.state for one in await hub.notices()] == [_N.DELIVERED]
            await hub.put(source.replace("printf 'article", "exit 3; printf 'article"))
            assert (await hub.run("demo.mail/report")).state == "FAILED"
            await hub.notices()
    report, alert = (one.mail for one in server.received)
    assert report["Subject"] == "Orders of <Monday>"
    [attached] = report.iter_attachments()
    assert attached.get_filename() == "orders.csv"
    html = report.get_body(("html",))
    assert html is not None
    assert "&lt;Monday&gt;" in html.get_content()
    assert alert["Subject"] == "report is FAILED"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"to": ["ada"]}, '"ada" is not a mail address'),
        ({"to": ["a@b.org\nBcc: c@d.org"]}, "is not a mail address"),
        ({"host": None}, "needs host:"),
        ({"tls": "none", "host": "smtp.example.org"}, "without TLS"),
    ],
)
async def test_a_mistake_stops_the_start(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    given = settings_for(MailServer(port=1, ca_file="x"), **changes)
    with pytest.raises(InvalidSettings, match=message):
        async with harness(tmp_path, settings=given):
            pass
