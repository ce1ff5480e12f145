"""Plugins of others, installed the way an installer leaves them: a module and its metadata in one folder."""

from __future__ import annotations

import os
from pathlib import Path
from textwrap import dedent


def install(folder: Path, name: str, source: str) -> dict[str, str]:
    """Put a plugin into a folder; answers the environment in which a hub finds it."""
    module = f"asynchub_{name}"
    folder.mkdir(exist_ok=True)
    (folder / f"{module}.py").write_text(dedent(source))
    metadata = folder / f"{module}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: asynchub-{name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[hub.plugins]\n{name} = {module}\n")
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))}
