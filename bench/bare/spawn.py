"""(e) The same shell script spawned bare: a fresh folder, the script in a file, its exit taken, the folder removed."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time

import uvloop


async def one(script: str) -> None:
    folder = tempfile.mkdtemp()
    with open(os.path.join(folder, "script.sh"), "w") as file:
        file.write(script)
    read, write = os.pipe()
    process = subprocess.Popen(["/bin/sh", "-e", "script.sh"], cwd=folder, stdin=subprocess.DEVNULL, stdout=write,
                               stderr=write, env={"PATH": os.environ["PATH"]}, start_new_session=True)  # fmt: skip
    os.close(write)
    loop, ended = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()
    descriptor = os.pidfd_open(process.pid)
    loop.add_reader(descriptor, lambda: ended.done() or ended.set_result(None))
    await ended
    loop.remove_reader(descriptor)
    os.close(descriptor)
    process.wait()
    os.read(read, 65536)
    os.close(read)
    shutil.rmtree(folder)


async def main(script: str, count: int, side_by_side: int) -> None:
    places = iter(range(count))

    async def worker() -> None:
        for _ in places:
            await one(script)

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(side_by_side)))
    print(time.perf_counter() - began, flush=True)


uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
