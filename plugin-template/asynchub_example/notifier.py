"""A notifier: how people are told, under a name that ``notifiers:`` in ``hub.yaml`` gives it."""

from typing import ClassVar

from pydantic import Field

from hub.plugin import Notification, Notifier, NotifierContext, check_answer, jsontext, post


class Tell(Notifier):
    """Tell a channel of the service."""

    type: ClassVar[str] = "example.tell"
    examples: ClassVar[tuple[str, ...]] = (
        "type: example.tell\nchannel: alarms\ntoken: \"{{ secret('EXAMPLE_TOKEN') }}\"",
    )

    channel: str = Field(description="The channel's name.")
    token: str = Field(description="The service's token: `{{ secret('NAME') }}`.")

    async def send(self, notification: Notification, ctx: NotifierContext) -> None:
        answer = await post(
            ctx,
            f"{ctx.settings.api_url}/channels/{self.channel}/messages",
            jsontext.dump_bytes({"text": f"{notification.subject}\n{notification.message}"}),
            {
                "Authorization": f"Bearer {self.token}",
                "Content-Type": "application/json",
                # the same for every attempt: the service sends it once
                "Idempotency-Key": notification.id,
            },
        )
        # returning says that it arrived: what was refused or not answered is to be an error
        check_answer(answer)
