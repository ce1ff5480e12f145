"""(p) A process that imports pydantic and a number of modules with a class each: ``COUNT FOLDER PREFIX``."""

from __future__ import annotations

import importlib
import sys

import pydantic  # noqa: F401

sys.path.insert(0, sys.argv[2])
for number in range(int(sys.argv[1])):
    importlib.import_module(f"{sys.argv[3]}{number}")
