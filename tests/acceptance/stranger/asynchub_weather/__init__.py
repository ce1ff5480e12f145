"""A plugin as a stranger writes it: tasks, a trigger, a listener, a function, importing only ``hub.plugin``."""

import asyncio
import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, Field

from hub.plugin import (
    Delivery,
    Duration,
    Emit,
    EventAccepted,
    ExecutionChanged,
    Listener,
    ListenerContext,
    NewsStream,
    Occurrence,
    Task,
    TaskContext,
    Trigger,
    TriggerContext,
    hookimpl,
)


class Report(Task):
    """Say what the weather is like."""

    type: ClassVar[str] = "weather.report"
    examples: ClassVar[tuple[str, ...]] = ("id: say\ntype: weather.report\ncelsius: 21.5\nplace: Lyon",)

    celsius: float = Field(description="The temperature.")
    place: str = Field(description="Where.")
    in_fahrenheit: bool = Field(False, description="For readers in the United States.")

    class Output(BaseModel):
        text: str
        is_warm: bool

    async def run(self, ctx: TaskContext) -> Output:
        degrees = self.celsius * 9 / 5 + 32 if self.in_fahrenheit else self.celsius
        text = f"{self.place}: {degrees:g} degrees"
        ctx.logger.info(text)
        return self.Output(text=text, is_warm=self.celsius > 20)


class Slow(Task):
    """Think, in a thread, about the weather."""

    type: ClassVar[str] = "weather.think"

    about: str = Field(description="What to think about.")

    def run(self, ctx: TaskContext) -> dict[str, Any]:
        return {"thought": self.about.upper()}


class Changes(Trigger):
    """Start the flow when the reading in a file has changed."""

    type: ClassVar[str] = "weather.changes"
    event_type: ClassVar[str] = "weather.changed"

    file: str = Field(description="A JSON file with number, place and celsius.")
    every: Duration = Field(timedelta(seconds=1), description="How often to look.")

    class Data(BaseModel):
        number: int
        place: str
        celsius: float

    async def run(self, ctx: TriggerContext, emit: Emit) -> None:
        seen = ctx.state.get("number", 0)
        while True:
            reading = json.loads(await asyncio.to_thread(Path(self.file).read_text))
            if reading["number"] > seen:
                seen = reading["number"]
                await emit(Occurrence(reading, delivery=Delivery(str(seen))), state={"number": seen})
            await asyncio.sleep(self.every.total_seconds())


class WeatherSettings(BaseModel):
    diary: str | None = None
    """A file that gets a line for each event and each end."""


class Diary(Listener):
    """Write down what happens."""

    type: ClassVar[str] = "weather.diary"
    wants = (EventAccepted, ExecutionChanged)

    async def run(self, ctx: ListenerContext, news: NewsStream) -> None:
        if ctx.settings.diary is None:
            return
        with open(ctx.settings.diary, "a", buffering=1) as diary:
            async for one in news:
                if isinstance(one, EventAccepted):
                    print("event", one.type, *one.execution_ids, file=diary)
                elif isinstance(one, ExecutionChanged) and one.state.is_terminal:
                    print("end", one.id, one.state.value, file=diary)


def feels(celsius: float) -> str:
    """How a temperature feels."""
    return "warm" if celsius > 20 else "cold"


@hookimpl
def register_tasks() -> list[type[Task]]:
    return [Report, Slow]


@hookimpl
def register_triggers() -> list[type[Trigger]]:
    return [Changes]


@hookimpl
def register_listeners() -> list[type[Listener]]:
    return [Diary]


@hookimpl
def settings_model() -> type[BaseModel]:
    return WeatherSettings


@hookimpl
def register_expression_functions() -> Mapping[str, Any]:
    return {"feels": feels}
