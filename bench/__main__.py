"""``python -m bench``: measure, print a table, write JSON; ``python -m bench compare A.json B.json``."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.cases import CASES
from bench.rows import Options, Row
from bench.subjects import ROOT


def main() -> None:
    """Parse the command line and run."""
    if sys.argv[1:2] == ["compare"]:
        compare(*(json.loads(Path(name).read_text()) for name in sys.argv[2:4]))
        return
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"{' '.join(CASES)}; all of them by default")
    parser.add_argument(
        "--hub", default=str(Path(sys.executable).parent / "hub"), help="another checkout's hub command"
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    parser.add_argument("--quick", action="store_true", help="fewer requests and items")
    parser.add_argument("--json", type=Path, help="where to write the results")
    given = parser.parse_args()
    unknown = [name for name in given.cases if name not in CASES]
    if unknown:
        parser.error(f"unknown case {unknown[0]}; there are {' '.join(CASES)}")
    options = Options(given.hub, given.rounds, given.quick)
    rows: list[Row] = []
    for name in given.cases or CASES:
        print(f"({name}) {CASES[name].__doc__}", file=sys.stderr, flush=True)
        found = CASES[name](options)
        rows += found
        for row in found:
            print(line(row), flush=True)
    target = given.json or ROOT / "bench" / "results" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "at": datetime.now(UTC).isoformat(),
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    target.write_text(json.dumps({"about": about, "rows": [asdict(row) for row in rows]}, indent=2) + "\n")
    print(f"written to {target}", file=sys.stderr)


def line(row: Row) -> str:
    """One row as text."""
    bare = f"{row.bare:10.1f}" if row.bare is not None else " " * 10
    ratio = f"{row.ratio:7.2f}" if row.ratio is not None else " " * 7
    mark = "" if row.holds is None else ("holds" if row.holds else "MISSED")
    return f"{row.case}  {row.what:<42} {row.hub:10.1f} {bare} {row.unit:<4} {ratio}  {row.aim:<20} {mark}".rstrip()


def compare(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Two results beside each other: the second by the first."""
    known = {(row["case"], row["what"]): row for row in one["rows"]}
    for row in other["rows"]:
        before = known.get((row["case"], row["what"]))
        if before is not None:
            change = row["hub"] / before["hub"] if before["hub"] else float("nan")
            print(
                f"{row['case']}  {row['what']:<42} {before['hub']:10.1f} {row['hub']:10.1f} {row['unit']:<4} x{change:.2f}"
            )


if __name__ == "__main__":
    main()
