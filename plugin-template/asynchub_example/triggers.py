"""Triggers: what starts a flow."""

from collections.abc import Mapping
from typing import Any, ClassVar

import aiohttp
from pydantic import BaseModel, Field

from hub.plugin import Delivery, Occurrence, Polled, PollingTrigger, TriggerContext


class Messages(PollingTrigger):
    """Start the flow for every new message in a channel."""

    type: ClassVar[str] = "example.messages"
    examples: ClassVar[tuple[str, ...]] = (
        "id: new\ntype: example.messages\nchannel: questions\nevery: PT30S",
    )

    channel: str = Field(description="The channel's name.")

    class Data(BaseModel):
        message_id: str = Field(description="The message.")
        author: str = Field(description="Who wrote it.")
        text: str = Field(description="What it says.")

    async def poll(self, ctx: TriggerContext, state: Mapping[str, Any]) -> Polled:
        session = await ctx.shared("session", aiohttp.ClientSession)
        url = f"{ctx.settings.api_url}/channels/{self.channel}/messages"
        async with session.get(url, params={"after": str(state.get("after", 0))}) as answer:
            answer.raise_for_status()
            messages = (await answer.json())["messages"]
        if not messages:
            return Polled()
        return Polled([self._occurrence(one) for one in messages], {"after": messages[-1]["number"]})

    def _occurrence(self, message: Mapping[str, Any]) -> Occurrence:
        data = self.Data(message_id=message["id"], author=message["author"], text=message["text"])
        # its delivery makes it known when the service gives it again
        return Occurrence(data.model_dump(), delivery=Delivery(message["id"]))
