"""What the engine's parts share; put together once, in ``hub.app``."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from hub.bus import Bus
from hub.clock import Clock
from hub.engine.faults import PluginFaults
from hub.engine.payloads import Payloads
from hub.engine.places import Places
from hub.engine.secrets import SecretVault
from hub.engine.shared import SharedResources
from hub.engine.threads import TaskThreads
from hub.engine.timer import WallTimer
from hub.engine.turns import Turns
from hub.engine.watches import Watches
from hub.expressions import FunctionTable
from hub.plugin.storage import Storage
from hub.registry import Registry


@dataclass
class Services:
    """Storage, time, secrets and the rest, as every part of the engine needs them.

    Nothing of it changes but ``registry``, which is another value once components were loaded again: ask for it
    when it is needed, and never keep it.
    """

    storage: Storage
    bus: Bus
    clock: Clock
    vault: SecretVault
    payloads: Payloads
    registry: Registry
    functions: FunctionTable
    work_dir: Path
    """Where task runs get their working folders."""
    instance: str
    """Names this installation in the environment of every process it starts."""
    timer: WallTimer
    """Waits for moments of the wall clock."""
    places: Places
    """Where flows may reach into the file system."""
    turns: Turns = field(default_factory=Turns)
    watches: Watches = field(default_factory=Watches)
    threads: TaskThreads = field(default_factory=TaskThreads)
    """For tasks whose ``run`` is a plain ``def``."""
    faults: PluginFaults = field(default_factory=PluginFaults)
    """What plugins do wrong while the hub runs."""
    owed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a notice was stored that is to be sent; it only wakes."""
    shared: SharedResources = field(default_factory=SharedResources)
