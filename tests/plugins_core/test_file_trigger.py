"""file.arrival: what is found, when it counts as whole, and where it lies from the first task to the last."""

from __future__ import annotations

from pathlib import Path

from tests.support.arrivals import arrivals, flow


async def test_a_file_is_one_event_and_lies_where_after_says(tmp_path: Path) -> None:
    async with arrivals(tmp_path, flow()) as drop:
        drop.put("a.csv", "one,two")
        [ended] = await drop.ended()
        outputs = await drop.outputs(ended)
        assert outputs["content"] == "one,two"
        await drop.until(lambda: drop.names("done") == ["a.csv"])
        assert drop.names("inbox") == []
        assert (tmp_path / "done" / "a.csv").read_text() == "one,two"
        assert len(await drop.events()) == 1
