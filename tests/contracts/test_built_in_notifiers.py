"""Built-in notifiers keep the contract of notifiers."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from hub.testing import Arrived, HttpReceiver, HttpRecipient, Manner, NotifierContract, Recipient
from tests.support.mail_server import PASSWORD, USER, MailServer, mail_server

KEY = "whsec_" + base64.b64encode(b"k" * 32).decode()
TOKEN = "xoxb-a-token-that-is-private"


class TestWebhook(NotifierContract):
    notifier_type = "webhook"

    @pytest.fixture
    def recipient(self, http_receiver: HttpReceiver, secrets: dict[str, str]) -> Recipient:
        secrets["KEY"] = KEY
        return HttpRecipient(
            http_receiver,
            {"url": f"{http_receiver.url}/hook?key=hidden-key", "secret": "{{ secret('KEY') }}"},
            id_of=lambda request: request.headers.get("webhook-id"),
            gone=(410, "unsubscribed"),
            private=[KEY, "hidden-key"],
        )


class TestSlackWebhook(NotifierContract):
    notifier_type = "slack"

    @pytest.fixture
    def recipient(self, http_receiver: HttpReceiver) -> Recipient:
        return _Unescaped(
            http_receiver,
            {"webhookUrl": f"{http_receiver.url}/services/T0/hidden"},
            good="ok",
            for_good=(404, "no_service"),
            gone=(410, "channel_is_archived"),
            private=["/services/T0/hidden"],
        )


class TestSlackBot(NotifierContract):
    notifier_type = "slack"

    @pytest.fixture
    def recipient(self, http_receiver: HttpReceiver, secrets: dict[str, str]) -> Recipient:
        secrets["TOKEN"] = TOKEN
        return _Unescaped(
            http_receiver,
            {"token": "{{ secret('TOKEN') }}", "channel": "C1", "apiUrl": http_receiver.url},
            id_of=_bot_id,
            good={"ok": True},
            refusal=(200, {"ok": False, "error": "internal_error"}),
            for_good=(200, {"ok": False, "error": "channel_not_found"}),
            private=[TOKEN],
        )


def _bot_id(request: object) -> str:
    return str(request.json["metadata"]["event_payload"]["id"])  # type: ignore[attr-defined]


class _Unescaped(HttpRecipient):
    """Slack shows its readers what it was sent without the escapes."""

    def arrived(self) -> Sequence[Arrived]:
        return [Arrived(_shown(one.text), one.id) for one in super().arrived()]


def _shown(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


class Mailbox(Recipient):
    """A mail server with TLS and logins."""

    private = (PASSWORD,)

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mails: list[Arrived] = []
        self._running = AsyncExitStack()

    async def open(self) -> None:
        self._server: MailServer = await self._running.enter_async_context(mail_server(self._folder))
        self.fields = {
            "to": ["ada@example.org"],
            "from": "hub@example.org",
            "host": "localhost",
            "port": self._server.port,
            "caFile": self._server.ca_file,
            "username": USER,
            "password": "{{ secret('SMTP') }}",
        }

    async def close(self) -> None:
        self._mails = list(self.arrived())
        self._server.received.clear()
        await self._running.aclose()

    def arrived(self) -> Sequence[Arrived]:
        mails = [one.mail for one in self._server.received]
        return [
            *self._mails,
            *(Arrived(f"{mail['Subject']}\n{mail.get_content()}", str(mail["Message-ID"])) for mail in mails),
        ]

    async def behave(self, manner: Manner) -> bool:
        answers = {
            Manner.ACCEPT: "",
            Manner.REFUSE: "451 4.3.0 not now",
            Manner.REFUSE_FOR_GOOD: "554 5.6.0 not this",
            Manner.DIE: "die",
            Manner.STALL: "stall",
        }
        if manner is Manner.AWAY:
            self._server.close()
            return True
        if self._server.is_closed:
            await self._server.listen()
        if manner in answers:
            self._server.choose = lambda: answers[manner]
        return manner in answers


class TestEmail(NotifierContract):
    notifier_type = "email"

    @pytest.fixture
    async def recipient(self, tmp_path: Path, secrets: dict[str, str]) -> AsyncIterator[Recipient]:
        secrets["SMTP"] = PASSWORD
        mailbox = Mailbox(tmp_path)
        await mailbox.open()
        yield mailbox
        await mailbox.close()
