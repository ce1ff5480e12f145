"""The operator's log is a convenience: a hub whose log cannot be written works on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_CODE = """
import sys
from hub.cli.logs import configure_logs
import logging, structlog

configure_logs()
log = structlog.get_logger("hub.test")
for n in range(3):
    log.warning("one line", n=n, text="x" * 100_000)
    logging.getLogger("lib").error("another")
print("alive")
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_log_that_cannot_be_written_stops_nothing() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", _CODE],
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout) == (0, "alive\n")


def test_a_reader_of_the_log_that_goes_away_stops_nothing() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _CODE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        process.stderr.close()
        assert process.stdout.read() == "alive\n"
        assert process.wait(60) == 0
