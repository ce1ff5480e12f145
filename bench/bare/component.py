"""(p) A class of fields that is made and run directly, as a program of one's own would: microseconds for each."""

from __future__ import annotations

import sys
import time
from typing import Any

import uvloop
from pydantic import BaseModel, ConfigDict, Field


class Echo(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str = Field(description="A text.")
    number: int = Field(description="A number.")

    async def run(self, ctx: object) -> dict[str, Any]:
        return {"text": self.text, "number": self.number}


async def main(count: int) -> None:
    for _ in range(200):
        await Echo(text="Ada", number=3).run(None)
    began = time.thread_time()
    for _ in range(count):
        await Echo(text="Ada", number=3).run(None)
    print((time.thread_time() - began) / count * 1e6)


uvloop.run(main(int(sys.argv[1])))
