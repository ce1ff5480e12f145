"""Ports for servers that must be told one before they start, and that keep it when they are started again.

What the kernel hands out for port 0 may be handed to another connection in the moment before the server binds
it, and while a server that was killed is away. These lie below the range that the kernel takes from.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

_LOWEST, _HIGHEST = 10_240, 32_768
_KERNELS = Path("/proc/sys/net/ipv4/ip_local_port_range")
_chance = random.SystemRandom()  # two test processes of one seed must not draw alike
_given: set[int] = set()


def free_port() -> int:
    """A port of loopback that nobody listens on and that was not given to anybody else in this process."""
    return free_ports(1)


def free_ports(count: int) -> int:
    """The first of ``count`` such ports that follow one another."""
    while True:
        first = _chance.randrange(_LOWEST, _end() - count)
        wanted = range(first, first + count)
        if not _given.intersection(wanted) and all(_is_free(port) for port in wanted):
            _given.update(wanted)
            return first


def _end() -> int:
    try:
        kernels = int(_KERNELS.read_text().split()[0])
    except (OSError, ValueError):
        return _HIGHEST
    # where the kernel takes from nearly everything there is nothing to keep away from
    return kernels if kernels > 2 * _LOWEST else _HIGHEST


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
