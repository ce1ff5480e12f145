"""Rounds of files and kill -9: what was brought is held against the hub's own account and the folders."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faults.file_maker import Brought, FileMaker, digest
from tests.support.hub_process import HubProcess

FLOW = """id: drop
namespace: faults
triggers:
  - id: arrived
    type: file.arrival
    path: {inbox}
    pattern: "*.csv"
    settle: PT0.3S
    {more}
    after: {after}
tasks:
  - {{id: first, type: file.read, path: "{{{{ trigger.path }}}}"}}
  - {{id: last, type: file.read, path: "{{{{ trigger.path }}}}"}}
"""
_START_SCRIPT = str(Path(__file__).with_name("crash_files.py"))
_PATIENCE = 600.0


@dataclass
class Outcome:
    """What a round came to."""

    brought: Brought
    wrong: list[str]
    events: int
    kills: int

    def line(self) -> str:
        """For the log."""
        manners = ", ".join(
            f"{count} {manner}" for manner, count in Counter(self.brought.stayed.values()).items()
        )
        return (
            f"file ledger: {self.kills} kills, {len(self.brought.stayed)} files that stayed ({manners}),"
            f" {len(self.brought.replaced)} replaced, {self.events} events, {len(self.wrong)} promises broken"
        )


class FileRound:
    """A hub over a folder that files are brought to."""

    def __init__(
        self, folder: Path, *, elsewhere: Path | None = None, more: str = "", seed: int | None = None
    ) -> None:
        """``elsewhere`` is where files go, if not below ``folder``."""
        self.folder = folder
        put_away = elsewhere or folder
        self._done, self._failed = put_away / "done", put_away / "failed"
        (folder / "hub.yaml").write_text(f"files: {{roots: [., {put_away}]}}\n")
        after = f"{{move: {self._done}, failed: {self._failed}}}"
        self.inbox = folder / "inbox"
        self.inbox.mkdir()
        (folder / "flows").mkdir()
        source = FLOW.format(inbox="inbox", after=after, more=more)
        (folder / "flows" / "drop.hub.yaml").write_text(source)
        self.maker = FileMaker(self.inbox, seed)
        self.chance = random.Random(seed)
        self.kills = 0
        self.hub = self._hub("none")

    def _hub(self, point: str, port: int = 0) -> HubProcess:
        return HubProcess(
            self.folder, flows=self.folder / "flows", start=(sys.executable, _START_SCRIPT, point), port=port
        )

    def start(self, point: str = "none") -> None:
        """Start the hub; ``point`` is where it is to crash, or the bug it is to have."""
        self.hub = self._hub(point)
        self.hub.start()

    def crash(self, point: str) -> None:
        """Start a hub that crashes at a point, and wait until it has."""
        self.start(point)
        assert self.hub.process is not None
        code = self.hub.process.wait(60)
        assert code == 137, f"it ended with {code}, and not at {point}"
        self.kills += 1

    def kill(self) -> None:
        self.hub.kill()
        self.kills += 1

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The hub stands still, as under a debugger, while what is told to it piles up."""
        assert self.hub.process is not None
        self.hub.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.hub.process.send_signal(signal.SIGCONT)

    @contextmanager
    def bringing(self, count: int, hands: int = 3) -> Iterator[None]:
        """Files are brought by several hands while the block lasts, and all of them before it ends."""
        threads = [threading.Thread(target=self.maker.bring, args=(count // hands,)) for _ in range(hands)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            for thread in threads:
                thread.join()

    def settled(self, patience: float = _PATIENCE) -> str | None:
        """Wait until every file is where it belongs; answers where any still is."""
        until = time.monotonic() + patience
        while (left := self._left()) and time.monotonic() < until:
            time.sleep(0.1)
        return left

    def finish(self, patience: float = _PATIENCE) -> Outcome:
        """Wait until every file is where it belongs, stop the hub and make the account."""
        left = self.settled(patience)
        wrong = [f"files wait in {left}"] if left else []
        code = self.hub.stop()
        if code:
            wrong.append(f"the hub ended with {code}")
        rows = list(self._rows())
        return Outcome(self.maker.brought, wrong + self._wrong(rows), len(rows), self.kills)

    def _left(self) -> str | None:
        """Where files still lie that are to go on."""
        if any(entry.name.endswith(".csv") for entry in os.scandir(self.inbox)):
            return "the inbox"
        claimed = self.inbox / ".hub-claimed"
        if any(files for _, _, files in os.walk(claimed)):
            return "the claim folder"
        return None

    def _rows(self) -> Iterator[tuple[str, str, list[str]]]:
        """Digest, state and what its tasks read, for each event; straight from the database."""
        database = sqlite3.connect(self.folder / "hub.db")
        outputs: dict[str, list[str]] = {}
        for execution, output in database.execute(
            "SELECT execution_id, outputs FROM task_runs WHERE outputs IS NOT NULL ORDER BY seq"
        ):
            outputs.setdefault(execution, []).append(json.loads(output).get("content", ""))
        for data, id, state in database.execute(
            "SELECT data, x.id, x.state FROM events v LEFT JOIN executions x ON x.event_id = v.id"
            " WHERE v.type = 'hub.file.arrived'"
        ):
            yield json.loads(data)["sha256"], state or "none", outputs.get(id, [])
        database.close()

    def _wrong(self, rows: list[tuple[str, str, list[str]]]) -> list[str]:
        brought, wrong = self.maker.brought, []
        seen = Counter(sha256 for sha256, _, _ in rows)
        for sha256, manner in brought.stayed.items():
            if seen[sha256] != 1:
                wrong.append(f"a file brought {manner} gave {seen[sha256]} events")
        for sha256, count in seen.items():
            if sha256 not in brought.stayed and sha256 not in brought.replaced:
                wrong.append("an event is about a part of a file")
            elif count > 1:
                wrong.append(f"a content gave {count} events")
        processed = set()
        for sha256, state, contents in rows:
            if state == "SUCCESS":
                processed.add(sha256)
                if [digest(content.encode()) for content in contents] != [sha256, sha256]:
                    wrong.append("a task saw another content than the event says")
            elif sha256 in brought.stayed:
                wrong.append(f"a file that stayed ended {state}")
        return wrong + self._misplaced(processed)

    def _misplaced(self, processed: set[str]) -> list[str]:
        done = Counter(digest(path.read_bytes()) for path in _files_in(self._done))
        wrong = [f"a file lies in done {count} times" for count in done.values() if count > 1]
        wrong += ["a file that was processed is not in done"] * len(processed - done.keys())
        wrong += ["a file in done was never processed"] * len(done.keys() - processed)
        failed = {digest(path.read_bytes()) for path in _files_in(self._failed)}
        wrong += ["a file that stayed lies in failed"] * len(failed & self.maker.brought.stayed.keys())
        return wrong


def _files_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
