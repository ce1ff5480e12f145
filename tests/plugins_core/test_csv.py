"""csv.read: rows out of the CSV that there is, and words for what is none."""

from __future__ import annotations

import csv
import io
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import InvalidFlow
from hub.model.execution import ExecutionState
from hub.testing import Harness, harness
from plugins_core.csv.tasks import Read


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Harness]:
    async with harness(tmp_path) as hub:
        yield hub


async def read(hub: Harness, fields: str = "") -> Any:
    """Read ``a.csv``: the outputs, or the reason why not."""
    await hub.put(f"id: x\nnamespace: y\ntasks:\n  - {{id: do, type: csv.read, path: a.csv{fields}}}\n")
    ended = await hub.run("y/x")
    if ended.state is not ExecutionState.SUCCESS:
        return ended.error
    outputs = (await hub.task_runs(ended.id))["do"].outputs
    return dict(await hub.node.services.payloads.unpack(outputs or {}))


@pytest.mark.parametrize(
    ("content", "fields", "rows"),
    [
        (b"a,b\n1,2\n3,4\n", "", [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]),
        (b"\xef\xbb\xbfa,b\r\n1,2\r\n", "", [{"a": "1", "b": "2"}]),
        (b'a,b\n"x,\ny",""""\n', "", [{"a": "x,\ny", "b": '"'}]),
        (b"\n\na;b\n\n1;2\n\n", ", delimiter: ';'", [{"a": "1", "b": "2"}]),
        (b"a\tb\n1\t2", ', delimiter: "\\t"', [{"a": "1", "b": "2"}]),
        ("né\n€\n".encode("cp1252"), ", encoding: cp1252", [{"né": "€"}]),
        ("a,b\n1,2\n".encode("utf-16"), ", encoding: utf-16", [{"a": "1", "b": "2"}]),
        (
            b"1,2\n3,4\n",
            ", header: false",
            [{"column1": "1", "column2": "2"}, {"column1": "3", "column2": "4"}],
        ),
        (b"1,2\n", ", header: [x, y]", [{"x": "1", "y": "2"}]),
        (b" a , \n1,2\n", "", [{"a": "1", "column2": "2"}]),
        (b"a,b\n", "", []),
        (b"", "", []),
        (b"", ", header: false", []),
    ],
)
async def test_rows_are_mappings_of_columns_to_text(
    hub: Harness, tmp_path: Path, content: bytes, fields: str, rows: list[dict[str, str]]
) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    found = await read(hub, fields)
    assert found["rows"] == rows
    assert found["count"] == len(rows)
    assert found["more"] is False


@pytest.mark.parametrize(
    ("content", "fields", "error"),
    [
        (b"a,b\n1,2\n3\n", "", "line 3: expected 2 fields, got 1"),
        (b"a,b\n1,2,3\n", "", "line 2: expected 2 fields, got 3"),
        (b'a,b\n"1,2\n', "", "line 2: unexpected end of data"),
        (b'a,b\n"1"x,2\n', "", "line 2: "),
        (b"a,a\n1,2\n", "", 'two columns named "a"'),
        (b"a\n\xff\n", "", "is not utf-8 after line"),
        (b"a\n" + b"x" * 2_000_000, "", "a line of more than 1,048,576 characters"),
        (b"a\n" + b"x" * 200_000, "", "field larger than field limit"),
        (b"a\n" + b"1\n" * 10_001, "", "more than 10,000 rows"),
        (b"a\n1\n2\n", ", maxRows: 1", "more than 1 rows"),
    ],
)
async def test_what_is_no_table_is_refused_with_its_line(
    hub: Harness, tmp_path: Path, content: bytes, fields: str, error: str
) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    assert error in await read(hub, fields)


async def test_a_limit_leaves_the_rest_out_and_says_so(hub: Harness, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n" + "".join(f"{number}\n" for number in range(20_000)))
    found = await read(hub, ", limit: 3")
    assert [row["a"] for row in found["rows"]] == ["0", "1", "2"]
    assert found["more"] is True
    assert (await read(hub, ", limit: 0"))["rows"] == []


async def test_ten_thousand_rows_are_given_whole(hub: Harness, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n" + "".join(f"{number},x\n" for number in range(10_000)))
    found = await read(hub)
    assert found["count"] == 10_000
    assert found["rows"][-1] == {"a": "9999", "b": "x"}


def test_a_large_file_costs_no_memory_when_little_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    path.write_text("a,b\n" + "1,2\n" * 5_000_000)
    tracemalloc.start()
    found = Read.model_validate({"path": str(path), "limit": 5})._read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found["count"] == 5
    assert peak < 4 * 1024 * 1024


async def test_a_file_of_the_file_store_is_read_too(hub: Harness, tmp_path: Path) -> None:
    await hub.put(
        "id: x\nnamespace: y\ntasks:\n"
        "  - {id: make, type: script.shell, script: \"printf 'a,b\\\\n1,2\\\\n' > t.csv\", outputFiles: [t.csv]}\n"
        "  - {id: do, type: csv.read, path: \"{{ outputs.make.files['t.csv'] }}\"}\n"
    )
    ended = await hub.run("y/x")
    assert ended.state is ExecutionState.SUCCESS, ended.error
    outputs = (await hub.task_runs(ended.id))["do"].outputs
    assert outputs is not None
    assert outputs["rows"] == [{"a": "1", "b": "2"}]


async def test_files_outside_the_roots_are_not_read(hub: Harness, tmp_path: Path) -> None:
    (tmp_path / "a.csv").symlink_to("/etc/passwd")
    assert "outside the folders" in await read(hub)


@pytest.mark.parametrize(
    "fields", [", delimiter: ';;'", ", delimiter: ''", ", encoding: rot13", ", encoding: nonsense"]
)
async def test_fields_that_cannot_work_are_refused_when_the_flow_is_saved(hub: Harness, fields: str) -> None:
    with pytest.raises(InvalidFlow):
        await read(hub, fields)


@given(
    st.lists(
        st.lists(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1),
            min_size=2,
            max_size=2,
        )
    )
)
def test_what_a_writer_wrote_is_what_is_read(rows: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([["a", "b"], *rows])
    task = Read.model_validate({"path": "x"})
    lines = csv.reader(task._lines(io.StringIO(text.getvalue(), newline="")), strict=True)
    assert [[*row.values()] for row in task._table(lines)["rows"]] == rows
