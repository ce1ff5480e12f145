"""The template's storage is the memory storage under the template's name, so it keeps the contract as that does.

``python -m tests.house.test_template_storage`` writes it anew.
"""

from __future__ import annotations

from pathlib import Path

from tests.support.installed import ROOT

OURS = ROOT / "plugins_core" / "memory"
THEIRS = ROOT / "plugin-template" / "asynchub_example" / "storage"
_RENAMED = {
    "plugins_core.memory": "asynchub_example.storage",
    "MemoryStorage": "ExampleStorage",
    '"memory"': '"example"',
    "a memory storage": "the storage",
    "A storage in plain dictionaries": "A storage to begin with, in plain dictionaries",
}


def translated() -> dict[str, str]:
    """What the template's modules have to be, by file name."""
    return {
        path.name: _translated(path)
        for path in sorted(OURS.glob("*.py"))
        if path.stem not in ("__init__", "plugin")
    }


def _translated(path: Path) -> str:
    text = path.read_text()
    for before, after in _RENAMED.items():
        text = text.replace(before, after)
    # sorted as the template's own imports are: its package before the hub's
    lines = text.splitlines(keepends=True)
    own = [line for line in lines if line.startswith("from asynchub_example")]
    rest = [line for line in lines if line not in own]
    at = next(number for number, line in enumerate(rest) if line.startswith("from hub.plugin"))
    return "".join([*rest[:at], *own, *rest[at:]])


def test_the_templates_storage_is_the_memory_storage_by_another_name() -> None:
    there = {path.name: path.read_text() for path in THEIRS.glob("*.py") if path.stem != "__init__"}
    assert there == translated(), "python -m tests.house.test_template_storage writes it anew"


if __name__ == "__main__":
    for name, text in translated().items():
        (THEIRS / name).write_text(text)
