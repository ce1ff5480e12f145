"""What every storage promises, as tests: subclass ``StorageContract`` and give it a ``storage`` fixture.

::

    class TestMyStorage(StorageContract):
        @pytest.fixture
        async def storage(self, tmp_path):
            async with MyStorage.open(settings(tmp_path)) as storage:
                yield storage
"""

from __future__ import annotations

from hub.testing.storage_accepting import AcceptingContract
from hub.testing.storage_details import DetailsContract
from hub.testing.storage_keeping import KeepingContract
from hub.testing.storage_moving import MovingContract
from hub.testing.storage_notices import NoticesContract
from hub.testing.storage_samples import (
    AT,
    FLOW,
    HOUR,
    TRIGGER,
    a_child_of,
    a_delivery,
    a_run,
    an_event,
    an_event_from_outside,
    an_execution,
    started,
    step,
)
from hub.testing.storage_steering import SteeringContract

__all__ = [
    "AT",
    "FLOW",
    "HOUR",
    "TRIGGER",
    "StorageContract",
    "a_child_of",
    "a_delivery",
    "a_run",
    "an_event",
    "an_event_from_outside",
    "an_execution",
    "started",
    "step",
]


class StorageContract(
    AcceptingContract, MovingContract, SteeringContract, KeepingContract, DetailsContract, NoticesContract
):
    """The tests; a subclass gives the ``storage`` fixture."""
