"""Tasks: what a step of a flow can do."""

from typing import Any, ClassVar

from pydantic import BaseModel, Field

from hub.plugin import Request, RequestTask, Response, TaskContext


class Send(RequestTask):
    """Send a message to a channel."""

    type: ClassVar[str] = "example.send"
    examples: ClassVar[tuple[str, ...]] = (
        "id: send\ntype: example.send\nchannel: answers\ntext: 'Good morning, {{ inputs.name }}'",
    )

    channel: str = Field(description="The channel's name.")
    text: str = Field(min_length=1, description="What to send.")

    class Output(BaseModel):
        message_id: str = Field(description="The new message.")

    async def request(self, ctx: TaskContext) -> Request:
        return Request(
            "POST",
            f"{ctx.settings.api_url}/channels/{self.channel}/messages",
            headers={
                "Authorization": f"Bearer {await ctx.secret('EXAMPLE_TOKEN')}",
                # the same for every attempt: the service sends it once
                "Idempotency-Key": ctx.idempotency_key,
            },
            json={"text": self.text},
        )

    def outputs(self, response: Response) -> Any:
        return self.Output(message_id=response.json["id"])
