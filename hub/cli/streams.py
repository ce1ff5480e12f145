"""The command's own output: what happens when its reader has gone, or when there is no room for it.

A reader that has gone, as ``head`` goes, is no failure. Output that cannot be written is one, and is said.
"""

from __future__ import annotations

import os
import sys
from typing import TextIO

FAILED = 1


def say(line: str) -> int:
    """Print a line; answers the exit code."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        return settle(0)
    except OSError as error:
        say_unwritable(error)
        return settle(FAILED)
    return 0


def settle(code: int) -> int:
    """Write out what is still held back; answers the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue  # closed by whoever started the command
        try:
            stream.flush()
        except BrokenPipeError:
            _give_up(stream)
        except OSError as error:
            _give_up(stream)
            if stream is sys.stdout and not code:
                say_unwritable(error)
                code = FAILED
        except ValueError:
            continue
    return code


def is_of_output(error: OSError) -> bool:
    """Whether an error came from printing."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__") == "click.utils"


def say_unwritable(error: OSError) -> None:
    """Say on stderr that stdout cannot be written."""
    try:
        print(f"error: the output cannot be written: {error.strerror}", file=sys.stderr)
    except OSError:
        return


def _give_up(stream: TextIO) -> None:
    """Let what is held back go nowhere, or the interpreter tries again at its end and fails aloud."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        stream.flush()
    except (OSError, ValueError):
        return
