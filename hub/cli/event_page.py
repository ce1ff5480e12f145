"""An event as people read it: in one line, or on a page of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_NAMES = (
    ("id", "id"),
    ("source", "source"),
    ("type", "type"),
    ("subject", "subject"),
    ("time", "time"),
    ("received", "receivedAt"),
    ("depth", "depth"),
    ("replay of", "replayOf"),
    ("repeats", "repeats"),
    ("in batch", "batch"),
    ("dead letter", "dead"),
)


def outcome_of(item: Mapping[str, Any]) -> str:
    """What an event started, and why other triggers did not."""
    said = [_verdict(one) for one in item["verdicts"]]
    if item.get("dead"):
        # most often its reason is what a trigger has said already
        is_said = any(one["reason"] and item["dead"].endswith(one["reason"]) for one in item["verdicts"])
        said.append("dead letter" if is_said else f"dead letter: {item['dead']}")
    return "; ".join(said) or "nothing wanted it"


def _verdict(one: Mapping[str, Any]) -> str:
    flow = f"{one['namespace']}/{one['flow']}"
    if one["outcome"] == "started":
        return f"started {flow} {one['executionId']} {one['state']}"
    return f"{one['outcome']} by {flow}/{one['trigger']}: {one['reason']}"


def event_page(item: Mapping[str, Any]) -> str:
    """Everything of an event."""
    from hub.cli.output import as_yaml

    lines = [f"{title:<12} {item[name]}" for title, name in _NAMES if item.get(name)]
    if item["flow"]:
        trigger = f"/{item['trigger']}" if item["trigger"] else ""
        lines.append(f"{'came by':<12} {item['namespace']}/{item['flow']}{trigger}")
    lines.append("triggers")
    lines += _verdict_lines(item["verdicts"])
    if "data" in item["omitted"]:
        lines += ["data", f"  {item['omitted']['data']}"]
    else:
        lines += ["data", *(f"  {line}" for line in as_yaml(item["data"]).splitlines())]
    return "\n".join(lines)


def _verdict_lines(verdicts: list[Mapping[str, Any]]) -> Iterator[str]:
    if not verdicts:
        yield "  nothing wanted it"
    for one in verdicts:
        name = f"{one['namespace']}/{one['flow']}/{one['trigger']}".rstrip("/")
        what = f"{one['executionId']} {one['state']}" if one["outcome"] == "started" else one["reason"]
        yield f"  {one['outcome']:<9} {name}  {what}"
