"""The bus says whether news of a topic are worth making."""

from __future__ import annotations

import pytest

from hub.bus import Bus


@pytest.mark.parametrize("topics", [("taskRun",), ("logs", "taskRun"), ()], ids=["one", "two", "all"])
def test_a_topic_is_heard_as_long_as_somebody_listens_to_it_or_to_all(topics: tuple[str, ...]) -> None:
    bus = Bus()
    assert not bus.is_heard("taskRun")
    with bus.subscribe("execution"):
        assert not bus.is_heard("taskRun")
        with bus.subscribe(*topics) as first, bus.subscribe(*topics):
            assert bus.is_heard("taskRun")
            bus.tell("taskRun", "x", state="SUCCESS")
            assert first.has_more
        assert not bus.is_heard("taskRun")
        assert bus.is_heard("execution")
