"""Write a file so that it is still there after a power cut: its content, its name and the folders above it flushed.

Imports the standard library alone: this file is also the program of the process beside the hub, see ``beside``.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress

_THREADS = 4
"""Files that the process beside the hub writes at a time: a flush waits for the disk, and the next ones need not."""


def keep(root: str, path: str, content: Iterable[bytes | memoryview]) -> None:
    """Write a new file below ``root``, whose missing folders are made. Raises ``OSError``, and leaves no half of it."""
    folder = os.path.dirname(path)
    try:
        _make_folder(root, folder)
        _write(path, content)
        _flush_folder(folder)
    except BaseException:
        # nobody will ever name it: the disk is full, or who gave it has gone
        with suppress(OSError):
            os.unlink(path)
        raise


def _make_folder(root: str, folder: str) -> None:
    """Make a folder below ``root``, and those above it up to ``root`` itself, where they are missing."""
    missing = []
    while not os.path.isdir(folder):
        missing.append(folder)
        if folder == root:
            break
        folder = os.path.dirname(folder)
    for one in reversed(missing):
        with suppress(FileExistsError):
            os.mkdir(one, 0o700)
        # a new name is durable only once its folder is flushed too
        _flush_folder(os.path.dirname(one))


def _flush_folder(folder: str) -> None:
    """Have the names in a folder on the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(path: str, content: Iterable[bytes | memoryview]) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        for piece in content:
            left = memoryview(piece)
            while left:
                left = left[os.write(handle, left) :]
        os.fsync(handle)
    finally:
        os.close(handle)


# -- the process beside the hub


def serve(control: socket.socket, memory: mmap.mmap) -> None:
    """Write what a hub asks for, a line of JSON each, until it has gone; what is to be written lies in ``memory``."""
    jobs, taking, answering = control.makefile("rb"), threading.Lock(), threading.Lock()

    def work() -> None:
        while True:
            with taking:
                line = jobs.readline()
            if not line.endswith(b"\n"):
                return
            number, begin, size, root, path = json.loads(line)
            error = None
            try:
                keep(root, path, [memoryview(memory)[begin : begin + size]])
            except OSError as problem:
                error = problem.strerror or str(problem)
            with answering, suppress(OSError):
                control.sendall(json.dumps([number, error]).encode() + b"\n")

    threads = [threading.Thread(target=work) for _ in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for the hub, which ends in order
    _control, _memory, _size = map(int, sys.argv[1:])
    serve(socket.socket(fileno=_control), mmap.mmap(_memory, _size))
