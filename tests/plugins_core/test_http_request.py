"""``http.request`` and ``http.download``: which answers are a success."""

from __future__ import annotations

import pytest

from hub.testing import HttpReceiver, Kit


@pytest.mark.parametrize("type_name", ["http.request", "http.download"])
@pytest.mark.parametrize(
    ("status", "allowed", "state"),
    [
        (404, ["2xx"], "FAILED"),
        (404, ["2xx", 404], "SUCCESS"),
        (404, ["4xx"], "SUCCESS"),
        (200, [404], "FAILED"),
        (204, ["204"], "SUCCESS"),
    ],
)
async def test_the_statuses_that_mean_success_are_the_ones_that_are_named(
    hub_kit: Kit,
    http_receiver: HttpReceiver,
    type_name: str,
    status: int,
    allowed: list[int | str],
    state: str,
) -> None:
    http_receiver.answer(status, "" if status == 204 else "said")
    result = await hub_kit.run_task(type_name, uri=http_receiver.url, allowedStatuses=allowed)
    assert (result.state, result.outputs.get("status")) == (state, status)
