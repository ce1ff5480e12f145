"""Rounds of random trees and kill -9: real hubs, and a ledger outside of them that every task calls.

Each tree runs once undisturbed, then several times while the hub is killed and started again. What the database
says of each of these executions must be what it says of the first, and the ledger must not have seen a task again
after one that only begins when it has completed.
"""

from __future__ import annotations

import json
import random
import sqlite3
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.hub_process import HubProcess
from tests.support.trees import Place, Task, TreeMaker, below, same_branch

_START_SCRIPT = str(Path(__file__).with_name("start_hub.py"))
_ONE_RENDERING = 0.15
"""Seconds within which all values of one loop are made, when they are made once."""
_PATIENCE = 120.0
_MILLISECOND = "fromJson('1' ~ (now() | split('.') | last | replace('Z', '')))"
_LIVE = "CREATED,QUEUED,RUNNING,PAUSED,RETRYING,KILLING"
_QUERY = {"execution": "{{ execution.id }}"}

At = tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """One task was at the ledger; ``at`` is the iteration it was in, the innermost loop's first."""

    execution: str
    task: str
    at: At
    value: str


@dataclass
class TreeLedger:
    """What the world outside the hub has seen, in order."""

    calls: list[Call] = field(default_factory=list)
    port: int = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        ledger, lock, seen = self, threading.Lock(), Counter[tuple[str, str, At]]()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
                at = tuple(json.loads(query["at"]))
                call = Call(query["execution"], query["task"], at, query.get("value", ""))
                with lock:
                    ledger.calls.append(call)
                    seen[call.execution, call.task, at] += 1
                    is_first = seen[call.execution, call.task, at] == 1
                # long enough for a kill to fall into the middle of a task
                time.sleep(0.01)
                self.send_response(503 if is_first and "flaky" in query else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


class Tree:
    """A random tree as a flow, and which of its tasks begin only after which."""

    def __init__(self, id: str, seed: int, port: int) -> None:
        self.id = id
        self._uri = f"http://127.0.0.1:{port}/"
        maker = TreeMaker(random.Random(seed), self._leaf, values="now()", toss=_MILLISECOND)
        tasks = maker.tasks()
        self.loops: dict[str, str] = {}
        """By task: the loop it is in."""
        self.after: dict[str, list[tuple[str, int]]] = defaultdict(list)
        """By task: those that begin only after it, and in how many loops both are together."""
        self._number(tasks, None)
        self._order(tasks, 0, is_sequence=True)
        end = [
            {
                "id": "last",
                "type": "http.request",
                "uri": self._uri,
                "query": {**_QUERY, "task": "last", "at": "[]"},
            }
        ]
        self.source = json.dumps({"id": id, "namespace": "trees", "tasks": tasks, "finally": end})

    def _leaf(self, chance: random.Random, place: Place) -> Task:
        call: Task = {
            "type": "http.request",
            "uri": self._uri,
            "query": {**_QUERY, "at": place.item.replace(" }}", " | toJson }}")},
        }
        flaky = {
            **call,
            "query": {**call["query"], "flaky": "yes"},
            "retry": {"interval": "20ms", "maxAttempts": 9},
        }
        broken = {**call, "uri": "http://127.0.0.1:1/", "allowFailure": True}
        nap = {"type": "flow.sleep", "duration": f"{chance.choice((5, 50, 300))}ms"}
        sub = {"type": "flow.subflow", "flowId": "child", "timeout": "PT1H"}
        return chance.choice([call, call, call, flaky, broken, nap, sub])

    def _number(self, tasks: list[Task], loop: str | None) -> None:
        """Let each call say which task it is of, and which value it is about."""
        for task in tasks:
            if "query" in task:
                task["query"]["task"] = task["id"]
                if loop is not None:
                    task["query"]["value"] = "{{ item.value }}"
                    self.loops[task["id"]] = loop
            for inside in below(task):
                self._number(inside, task["id"] if task["type"] == "flow.loop" else loop)

    def _order(self, tasks: list[Task], loops: int, *, is_sequence: bool) -> list[str]:
        """Answers the calls among tasks, and notes which come after which."""
        before: list[str] = []
        for task in tasks:
            inner = loops + (task["type"] == "flow.loop")
            here = [task["id"]] if "query" in task else []
            for inside in below(task):
                here += self._order(inside, inner, is_sequence=task["type"] != "flow.parallel")
            if is_sequence:
                for one in before:
                    self.after[one] += [(other, loops) for other in here]
            before += here
        return before


_CHILD = """id: child
namespace: trees
tasks:
  - {{id: one, type: http.request, uri: "{uri}", query: {{execution: "{{{{ execution.id }}}}", task: one, at: "[]"}}}}
  - {{id: nap, type: flow.sleep, duration: 40ms}}
  - {{id: two, type: http.request, uri: "{uri}", query: {{execution: "{{{{ execution.id }}}}", task: two, at: "[]"}}}}
"""


def run_tree_rounds(
    folder: Path, *, trees: int, kills: int, seed: int, bug: str = "none", patience: float = _PATIENCE
) -> tuple[TreeLedger, int, list[str]]:
    """Undisturbed, then under kill -9; answers the ledger, how many executions there were, and what is wrong."""
    chance = random.Random(seed)
    ledger = TreeLedger()
    with ledger.listening():
        made = [Tree(f"tree{number}", chance.randrange(2**32), ledger.port) for number in range(trees)]
        flows = folder / "flows"
        flows.mkdir()
        (flows / "child.hub.yaml").write_text(_CHILD.format(uri=f"http://127.0.0.1:{ledger.port}/"))
        for tree in made:
            (flows / f"{tree.id}.hub.yaml").write_text(tree.source)
        hub = HubProcess(folder, flows=flows, start=(sys.executable, _START_SCRIPT, bug))
        hub.start()
        try:
            first = {tree.id: _start(hub, tree) for tree in made}
            _until_all_ended(hub, patience)
            again: list[tuple[Tree, str]] = []
            for _ in range(kills):
                again += [(tree, _start(hub, tree)) for tree in chance.sample(made, min(3, trees))]
                time.sleep(chance.uniform(0.05, 0.8))
                hub.kill()
                hub.start()
            late = _until_all_ended(hub, patience)
        finally:
            hub.stop()
    wrong = [*late, *_again_after(ledger, again)]
    wrong += _rendered_again(ledger, again)
    wrong += _other_outcomes(folder / "hub.db", first, again)
    return ledger, len(again), wrong


def _start(hub: HubProcess, tree: Tree) -> str:
    answer = hub.call("POST", f"/api/v1/flows/trees/{tree.id}/executions", {})
    assert answer.status == 201, answer.raw
    id: str = answer.json["id"]
    return id


def _until_all_ended(hub: HubProcess, patience: float) -> list[str]:
    until = time.monotonic() + patience
    left: list[Any] = []
    while time.monotonic() < until:
        left = hub.call("GET", f"/api/v1/executions?state={_LIVE}&limit=5").json["items"]
        if not left:
            return []
        time.sleep(0.1)
    return [f"{one['flow']} {one['id']} does not end: {one['state']}" for one in left]


# the account


def _again_after(ledger: TreeLedger, again: list[tuple[Tree, str]]) -> list[str]:
    """Tasks that were called again though one that comes after them had been."""
    trees = {id: tree.after for tree, id in again}
    child = {"one": [("two", 0)]}
    had: dict[str, set[tuple[str, At]]] = defaultdict(set)
    wrong = []
    for call in ledger.calls:
        for later, loops in trees.get(call.execution, child).get(call.task, []):
            together = call.at[len(call.at) - loops :]
            if any(task == later and at[len(at) - loops :] == together for task, at in had[call.execution]):
                wrong.append(f"execution {call.execution}: {call.task} at {call.at} ran again after {later}")
                break
        had[call.execution].add((call.task, call.at))
    return wrong


def _rendered_again(ledger: TreeLedger, again: list[tuple[Tree, str]]) -> list[str]:
    trees = {id: tree for tree, id in again}
    moments: dict[tuple[str, str, At], list[float]] = defaultdict(list)
    for call in ledger.calls:
        if call.execution in trees and call.value:
            loop = trees[call.execution].loops[call.task]
            moments[call.execution, loop, call.at[1:]].append(datetime.fromisoformat(call.value).timestamp())
    return [
        f"execution {execution}: the values of {loop} were rendered more than once"
        for (execution, loop, _), found in moments.items()
        if max(found) - min(found) > _ONE_RENDERING
    ]


def _other_outcomes(database: Path, first: dict[str, str], again: list[tuple[Tree, str]]) -> list[str]:
    connection = sqlite3.connect(database)
    wrong = []
    for tree, id in again:
        try:
            found, wanted = _outcome(connection, id), _outcome(connection, first[tree.id])
        except ValueError as error:
            wrong.append(f"{tree.id} {id}: {error}")
            continue
        if found != wanted:
            wrong.append(f"{tree.id} {id} had another outcome: {_difference(found, wanted)}")
    connection.close()
    return wrong


def _outcome(connection: sqlite3.Connection, id: str) -> dict[str, Any]:
    """How an execution ended, with its task runs and subflows by path. Raises ``ValueError`` for one twice."""
    [(state, error)] = connection.execute(
        "SELECT state, error FROM executions WHERE id = ?", (id,)
    ).fetchall()
    found: dict[str, Any] = {"": [state, same_branch(error or "")]}
    for scope, name, state in connection.execute(
        "SELECT scope, name, state FROM task_runs WHERE execution_id = ?", (id,)
    ).fetchall():
        path = same_branch(scope + name)
        if path in found:
            raise ValueError(f"{path} is in two branches")
        found[path] = [state]
    for child, path in connection.execute(
        "SELECT id, parent_path FROM executions WHERE parent_id = ?", (id,)
    ).fetchall():
        place = found[same_branch(path)]
        if len(place) > 1:
            raise ValueError(f"the subflow at {path} was started twice")
        place.append(_outcome(connection, child))
    return found


def _difference(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    paths = [path for path in {**found, **wanted} if found.get(path) != wanted.get(path)]
    return "; ".join(f"{path}: {found.get(path)}, not {wanted.get(path)}" for path in paths[:3])
