"""The hub itself: its nodes, plugins and health."""

from __future__ import annotations

from pydantic import Field

from hub.api.views.base import View


class NodeView(View):
    """One of the hubs over a storage."""

    number: int
    name: str = Field(description="Its machine and process.")
    version: str
    state: str = Field(description="`alive`, `draining`, or `silent`: the others take over what it moves.")
    executions: int = Field(description="How many executions it moves.")
    this: bool = Field(description="Whether it is the hub that was asked.")
    started_at: str
    heartbeat_at: str
    lease_expires_at: str


class NodeList(View):
    """The hubs over a storage."""

    items: list[NodeView]


class ListenerView(View):
    """A listener of a plugin and how it does."""

    type: str
    state: str = Field(
        description="running, failing (it is started again), ended (it wants no more) or stopped."
    )
    told: int = Field(description="How many news it was told since the hub started.")
    dropped: int = Field(description="How many of them gave way because it was too slow.")
    waiting: int = Field(description="How many wait for it.")
    failures: int
    error: str | None = None


class PluginFaultView(View):
    """Something that a plugin did wrong while the hub ran."""

    component: str | None = Field(None, description="The type of what did it, where somebody can say.")
    fault: str
    hint: str = Field(description="What to do.")
    where: str | None = Field(None, description="The execution and task run, or the trigger.")
    count: int = Field(description="How often since the hub started.")
    last_at: str


class PluginView(View):
    """A plugin, how it was loaded, and what it did wrong since."""

    name: str
    distribution: str | None = None
    version: str | None = None
    types: list[str] = []
    state: str
    error: str | None = None
    advice: str | None = Field(None, description="What its author could do better.")
    faults: list[PluginFaultView] = []
    listeners: list[ListenerView] = []


class PluginList(View):
    """The hub's plugins."""

    items: list[PluginView]


class HealthView(View):
    """Whether the hub lives, or takes events."""

    status: str
