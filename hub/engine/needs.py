"""Which types the flows in use need, and what it means where no plugin brings one.

A hub that runs without would refuse what the senders of those flows were promised: so it does not start, and a process
that is to take over from a running hub says so before that one has let go of anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hub.config.summary import types_of
from hub.errors import PluginError
from hub.model.flow import FlowRecord
from hub.registry import Registry

Need = tuple[str, str, str]
"""A kind, ``task`` or ``trigger``; a type's name; a flow that needs it."""

_MOST_NAMED = 5
_LOCAL = "local."
_HINT = (
    "install or mend the plugin, or take the file away; plugins: {NAME: {enabled: false}} in hub.yaml starts"
    " the hub with these flows broken"
)


def missing(registry: Registry, kind: str, name: str) -> str | None:
    """Why a type is not there, or None where it is."""
    if name in (registry.tasks if kind == "task" else registry.triggers):
        return None
    reason = registry.explain(kind, name) or f'no plugin "{name.split(".", 1)[0]}" is installed'
    return f'the {kind} type "{name}": {reason}'


def refusal(reasons: Sequence[str]) -> PluginError:
    """The error that stops a start; each reason names a flow and what it needs."""
    more = f" (and {len(reasons) - _MOST_NAMED} more flows)" if len(reasons) > _MOST_NAMED else ""
    return PluginError("; ".join(reasons[:_MOST_NAMED]) + more, hint=_HINT)


def needs_of(records: Iterable[FlowRecord]) -> list[Need]:
    """What the flows that are in use need, each type once.

    Types of a ``tasks.py`` are left out: they come with the folder, not with a plugin.
    """
    found: dict[tuple[str, str], str] = {}
    for record in records:
        for kind, name in () if record.disabled else types_of(record.summary):
            if not name.startswith(_LOCAL):
                found.setdefault((kind, name), str(record.key))
    return [(kind, name, flow) for (kind, name), flow in found.items()]


def check_needs(needs: Iterable[Need], registry: Registry) -> None:
    """Raises ``PluginError`` naming the flows that could not run with these plugins.

    What the settings have switched off was left out on purpose.
    """
    reasons = [
        f"flow {flow} needs {reason}"
        for kind, name, flow in needs
        if (reason := missing(registry, kind, name)) is not None and not registry.is_switched_off(name)
    ]
    if reasons:
        raise refusal(reasons)
