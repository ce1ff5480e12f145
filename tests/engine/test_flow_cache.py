"""Which ready flows stay: by the size of their texts, the last used longest."""

from __future__ import annotations

from datetime import UTC, datetime

from hub.config.flows import load_flow
from hub.engine.compiled import CompiledFlow
from hub.engine.flow_cache import FlowCache
from hub.expressions import builtin_functions
from hub.model.ids import FlowKey
from tests.support.stage import Stage

_FUNCTIONS = builtin_functions(lambda: datetime.now(UTC))


def ready(id: str, revision: int = 1) -> CompiledFlow:
    registry = Stage().registry
    source = f"id: {id}\nnamespace: n\ntasks: [{{id: t, type: return, value: 1}}]\n"
    flow = load_flow(source, registry=registry, functions=_FUNCTIONS).flow
    return CompiledFlow(flow, revision, registry, _FUNCTIONS)


def test_what_was_not_asked_for_longest_gives_way() -> None:
    cache, flows = FlowCache(300), [ready(id) for id in "abcd"]
    for flow in flows[:3]:
        cache.add(flow, text=100)
    assert cache.get(FlowKey("n", "a"), 1) is flows[0]
    cache.add(flows[3], text=150)
    here = [id for id in "abcd" if cache.get(FlowKey("n", id), 1) is not None]
    assert here == ["a", "d"]


def test_a_flow_that_is_added_again_counts_once() -> None:
    cache, flow, other = FlowCache(250), ready("a"), ready("b")
    cache.add(other, text=100)
    for _ in range(5):
        cache.add(flow, text=100)
    assert len(cache) == 2


def test_the_newest_stays_however_long_it_is() -> None:
    cache, long = FlowCache(100), ready("long")
    cache.add(ready("a"), text=50)
    cache.add(long, text=5_000)
    assert cache.get(FlowKey("n", "long"), 1) is long
    assert len(cache) == 1
    cache.add(ready("b"), text=50)
    assert cache.get(FlowKey("n", "long"), 1) is None


def test_every_revision_of_a_flow_is_forgotten_and_no_other() -> None:
    cache = FlowCache(1_000)
    for revision in (1, 2):
        cache.add(ready("a", revision), text=100)
    cache.add(ready("b"), text=100)
    cache.forget(FlowKey("n", "a"))
    assert [cache.get(FlowKey("n", "a"), revision) for revision in (1, 2)] == [None, None]
    assert len(cache) == 1


def test_a_thousand_small_flows_stay_ready() -> None:
    """Those that fire every second must not be made ready anew each time."""
    cache, flow = FlowCache(), ready("a")
    for revision in range(1_000):
        flow.revision = revision
        cache.add(flow, text=170)
    assert len(cache) == 1_000
