"""(p) A listening socket handed to another process, which answers the caller that waits in it: milliseconds."""

from __future__ import annotations

import os
import socket
import time

listening = socket.create_server(("127.0.0.1", 0))
ours, theirs = socket.socketpair()
if os.fork() == 0:
    _word, files, _flags, _address = socket.recv_fds(theirs, 1, 1)
    taken = socket.socket(fileno=files[0])
    caller, _peer = taken.accept()
    caller.sendall(b"answer")
    os._exit(0)
calling = socket.create_connection(listening.getsockname())
began = time.perf_counter()
socket.send_fds(ours, [b"f"], [listening.fileno()])
listening.close()
calling.recv(6)
print((time.perf_counter() - began) * 1000)
os.wait()
