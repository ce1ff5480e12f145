"""The public test kit: a hub in one process, a virtual clock, contract suites for plugins.

Tests of a plugin need no import at all: ``hub.testing.pytest_plugin`` brings the fixtures ``run_task``,
``run_flow``, ``trigger`` and the rest to every pytest in whose environment the hub is installed. What is named
here is loaded when it is first asked for, so that other projects' tests pay nothing for it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hub.testing.clock import VirtualClock
    from hub.testing.contracts.file_store import FileStoreContract
    from hub.testing.contracts.listener import ListenerContract, Witness
    from hub.testing.contracts.notifier import Arrived, HttpRecipient, Manner, NotifierContract, Recipient
    from hub.testing.contracts.secret_source import SecretSourceContract
    from hub.testing.contracts.task import TaskContract
    from hub.testing.contracts.trigger import Source, TriggerContract
    from hub.testing.hub_harness import Harness, harness
    from hub.testing.kit import FlowResult, Kit, NothingCame, TaskResult, TriggerRun
    from hub.testing.leaks import Leaked, Leaks
    from hub.testing.receiver import HttpReceiver, Received
    from hub.testing.steered import SteeredStorage
    from hub.testing.storage_contract import StorageContract

_PLACES = {
    "Arrived": "hub.testing.contracts.notifier",
    "FileStoreContract": "hub.testing.contracts.file_store",
    "FlowResult": "hub.testing.kit",
    "Harness": "hub.testing.hub_harness",
    "HttpReceiver": "hub.testing.receiver",
    "HttpRecipient": "hub.testing.contracts.notifier",
    "Kit": "hub.testing.kit",
    "Leaked": "hub.testing.leaks",
    "Leaks": "hub.testing.leaks",
    "ListenerContract": "hub.testing.contracts.listener",
    "Manner": "hub.testing.contracts.notifier",
    "NothingCame": "hub.testing.kit",
    "NotifierContract": "hub.testing.contracts.notifier",
    "Received": "hub.testing.receiver",
    "Recipient": "hub.testing.contracts.notifier",
    "SecretSourceContract": "hub.testing.contracts.secret_source",
    "Source": "hub.testing.contracts.trigger",
    "SteeredStorage": "hub.testing.steered",
    "StorageContract": "hub.testing.storage_contract",
    "TaskContract": "hub.testing.contracts.task",
    "TaskResult": "hub.testing.kit",
    "TriggerContract": "hub.testing.contracts.trigger",
    "TriggerRun": "hub.testing.kit",
    "VirtualClock": "hub.testing.clock",
    "Witness": "hub.testing.contracts.listener",
    "harness": "hub.testing.hub_harness",
}
"""Where each name is."""

__all__ = [
    "Arrived",
    "FileStoreContract",
    "FlowResult",
    "Harness",
    "HttpReceiver",
    "HttpRecipient",
    "Kit",
    "Leaked",
    "Leaks",
    "ListenerContract",
    "Manner",
    "NothingCame",
    "NotifierContract",
    "Received",
    "Recipient",
    "SecretSourceContract",
    "Source",
    "SteeredStorage",
    "StorageContract",
    "TaskContract",
    "TaskResult",
    "TriggerContract",
    "TriggerRun",
    "VirtualClock",
    "Witness",
    "harness",
]


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(place), name)
