"""Random trees of tasks: loops, parallels, branches and whatever leaves a test brings.

Every branch of a ``flow.if`` or ``flow.switch`` is the same but for its tasks' ids, so that it may be left to
chance which one is taken, and still be known what comes of it.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

Task = dict[str, Any]
_BRANCH = re.compile(r"-x\d+")


@dataclass(frozen=True)
class Place:
    """Where in a tree a leaf stands."""

    loops: int = 0
    """How many loops are around it."""
    is_alone: bool = True
    """Whether nothing runs beside it: what a failure of it stops is known then."""

    @property
    def item(self) -> str:
        """An expression for which iterations it is in, outermost last."""
        parts = [f"item.{'parent.' * depth}index" for depth in range(self.loops)]
        return "{{ [" + ", ".join(parts) + "] }}"


Leaf = Callable[[random.Random, Place], Task]


class TreeMaker:
    """Makes tasks inside of tasks, by chance."""

    def __init__(
        self,
        chance: random.Random,
        leaf: Leaf,
        *,
        values: str,
        toss: str,
        is_tolerant: bool = True,
        most: int = 10,
    ) -> None:
        """``values`` is an expression for each value of a loop, ``toss`` one for what a branch hangs on.

        ``is_tolerant`` says whether groups may have ``allowFailure``.
        """
        self._is_tolerant = is_tolerant
        self._chance = chance
        self._leaf = leaf
        self._values = values
        self._toss = toss
        self._left = most
        self._ids = self._copies = 0

    def tasks(self, place: Place = Place(), depth: int = 0) -> list[Task]:
        """One to three tasks, one after another."""
        return [self._task(place, depth) for _ in range(self._chance.randint(1, 3))]

    def _task(self, place: Place, depth: int) -> Task:
        self._ids += 1
        id = f"t{self._ids}"
        if depth >= 4 or self._left <= 0 or self._chance.random() < 0.45:
            self._left -= 1
            return {"id": id, **self._leaf(self._chance, place)}
        makes = (self._sequential, self._parallel, self._loop, self._if, self._switch)
        task = {"id": id, **self._chance.choice(makes)(place, depth + 1)}
        if self._chance.random() < 0.15:
            task["timeout"] = "PT1H"
        if self._is_tolerant and self._chance.random() < 0.15:
            task["allowFailure"] = True
        return task

    def _sequential(self, place: Place, depth: int) -> Task:
        return {"type": "flow.sequential", "tasks": self.tasks(place, depth)}

    def _parallel(self, place: Place, depth: int) -> Task:
        limit = self._chance.randint(0, 2)
        inside = replace(place, is_alone=place.is_alone and limit == 1)
        return {"type": "flow.parallel", "tasks": self.tasks(inside, depth), "concurrencyLimit": limit}

    def _loop(self, place: Place, depth: int) -> Task:
        limit, size = self._chance.randint(1, 3), self._chance.randint(0, 4)
        inside = Place(place.loops + 1, place.is_alone and limit == 1)
        if self._chance.random() < 0.3:
            values = "{{ {" + ", ".join(f"'k{n}': {self._values}" for n in range(size)) + "} }}"
        else:
            values = "{{ [" + ", ".join([self._values] * size) + "] }}"
        tasks = self.tasks(inside, depth)
        return {"type": "flow.loop", "values": values, "tasks": tasks, "concurrencyLimit": limit}

    def _if(self, place: Place, depth: int) -> Task:
        tasks = self.tasks(place, depth)
        condition = "{{ " + self._toss + " % 2 == 0 }}"
        return {"type": "flow.if", "condition": condition, "then": tasks, "else": self._copied(tasks)}

    def _switch(self, place: Place, depth: int) -> Task:
        tasks = self.tasks(place, depth)
        cases = {"0": tasks, "1": self._copied(tasks)}
        value = "{{ " + self._toss + " % 3 }}"
        return {"type": "flow.switch", "value": value, "cases": cases, "defaults": self._copied(tasks)}

    def _copied(self, tasks: list[Task]) -> list[Task]:
        """Another branch of the same tasks."""
        self._copies += 1
        copied: list[Task] = json.loads(json.dumps(tasks))
        for task in every(copied):
            task["id"] += f"-x{self._copies}"
        return copied


def below(task: Task) -> list[list[Task]]:
    """The lists of tasks inside of a task."""
    lists = [task[name] for name in ("tasks", "then", "else") if name in task]
    return [*lists, *task.get("cases", {}).values(), *([task["defaults"]] if "defaults" in task else [])]


def every(tasks: list[Task]) -> list[Task]:
    """Each task with all inside of it, as they stand in the file."""
    found: list[Task] = []
    for task in tasks:
        found.append(task)
        for inside in below(task):
            found += every(inside)
    return found


def same_branch(text: str) -> str:
    """A text about a tree as if each branch were the first one."""
    return _BRANCH.sub("", text)
