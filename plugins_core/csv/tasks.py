"""The task ``csv.read``; rows are read one by one, so a file larger than is wanted costs no memory."""

from __future__ import annotations

import asyncio
import csv
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, TextIO

from pydantic import BaseModel, Field, field_validator

from hub.plugin import Fail, Task, TaskContext, opened

_STORED = "hub:///"
_MOST_ROWS = 100_000
_LONGEST_LINE = 1024 * 1024
_MOST_CHARACTERS = 64 * 1024 * 1024
"""How much text all rows may hold together."""


class Read(Task):
    """Read a CSV file: every line is a row, every row a mapping of columns to text."""

    type: ClassVar[str] = "csv.read"
    examples: ClassVar[tuple[str, ...]] = (
        "id: orders\ntype: csv.read\npath: inbox/orders.csv",
        "id: prices\ntype: csv.read\npath: prices.csv\ndelimiter: ';'\nencoding: cp1252\n"
        "header: [article, price]\nlimit: 100",
    )

    path: str = Field(description="The file: below `files.roots`, or a URI of the file store.")
    header: bool | list[str] = Field(
        True,
        description="true: the first line names the columns; false: they are `column1` and so on; "
        "a list: these are their names, and the first line is a row.",
    )
    delimiter: str = Field(",", description="What stands between two fields, one character.")
    encoding: str = Field("utf-8", description="How the text is written, as utf-8, latin-1 or utf-16.")
    limit: int | None = Field(None, ge=0, description="How many rows to read; the rest is left out.")
    max_rows: int = Field(
        10_000, ge=1, le=_MOST_ROWS, description="The most rows to take; a file with more is a failure."
    )

    class Output(BaseModel):
        rows: list[dict[str, str]] = Field(description="The rows, each a mapping of columns to text.")
        columns: list[str] = Field(description="The names of the columns, in their order.")
        count: int = Field(description="How many rows there are here.")
        more: bool = Field(description="Whether `limit` left any out.")

    @field_validator("delimiter")
    @classmethod
    def _separates(cls, value: str) -> str:
        if len(value) != 1 or value in '\r\n"':
            raise ValueError("expected one character, as a comma, a semicolon or a tab")
        return value

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, value: str) -> str:
        try:
            io.TextIOWrapper(io.BytesIO(), value)
        except LookupError as error:
            raise ValueError(f"{error}; utf-8, latin-1 and utf-16 are some") from error
        return value

    async def run(self, ctx: TaskContext) -> dict[str, Any]:
        is_stored = self.path.startswith(_STORED)
        path = (await ctx.files.path(self.path)).resolve() if is_stored else ctx.place(self.path)
        return await asyncio.to_thread(self._read, path)

    def _read(self, path: Path) -> dict[str, Any]:
        with self._text(path) as text:
            lines = csv.reader(self._lines(text), delimiter=self.delimiter, strict=True)
            try:
                return self._table(lines)
            except csv.Error as error:
                raise Fail(f"{self.path}, line {lines.line_num}: {error}") from error
            except UnicodeError as error:
                raise Fail(
                    f"{self.path} is not {self.encoding} after line {lines.line_num}: {error};"
                    " name its encoding"
                ) from error

    @contextmanager
    def _text(self, path: Path) -> Iterator[TextIO]:
        # the mark that some programs put before UTF-8 is no part of the first name
        encoding = (
            "utf-8-sig" if self.encoding.lower().replace("_", "-") in ("utf-8", "utf8") else self.encoding
        )
        with (
            opened(path, os.O_RDONLY) as handle,
            open(handle, encoding=encoding, newline="", closefd=False) as text,
        ):
            yield text

    def _lines(self, text: TextIO) -> Iterator[str]:
        while line := text.readline(_LONGEST_LINE + 1):
            if len(line) > _LONGEST_LINE:
                raise Fail(f"{self.path} has a line of more than {_LONGEST_LINE:,} characters; is it CSV?")
            yield line

    def _table(self, lines: Any) -> dict[str, Any]:
        columns = self._columns_before(lines)
        rows: list[dict[str, str]] = []
        characters = 0
        more = False
        for fields in lines:
            if not fields:
                continue  # a blank line
            if columns is None:
                columns = [f"column{number}" for number in range(1, len(fields) + 1)]
            if len(fields) != len(columns):
                raise Fail(
                    f"{self.path}, line {lines.line_num}: expected {len(columns)} fields, got {len(fields)}"
                )
            if self.limit is not None and len(rows) >= self.limit:
                more = True
                break
            if len(rows) >= self.max_rows:
                raise Fail(
                    f"{self.path} has more than {self.max_rows:,} rows; raise maxRows (to {_MOST_ROWS:,} at"
                    " most), set a limit, or read it in a script"
                )
            characters += sum(map(len, fields))
            if characters > _MOST_CHARACTERS:
                raise Fail(
                    f"{self.path} holds more than {_MOST_CHARACTERS:,} characters; read it in a script"
                )
            rows.append(dict(zip(columns, fields, strict=True)))
        return {"rows": rows, "columns": columns or [], "count": len(rows), "more": more}

    def _columns_before(self, lines: Any) -> list[str] | None:
        """The names of the columns, where they are known before the first row."""
        if self.header is False:
            return None
        found = next((line for line in lines if line), []) if self.header is True else self.header
        names = [name.strip() or f"column{number}" for number, name in enumerate(found, start=1)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise Fail(f'{self.path} has two columns named "{twice}"; name them all with header: […]')
        return names
