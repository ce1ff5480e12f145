"""What databases answer, as plain data that a flow can hold."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from hub.plugin import Fail, format_duration


@dataclass(frozen=True)
class Found:
    """What a query gave."""

    rows: list[dict[str, Any]]
    count: int


def rows_of(columns: Sequence[str], rows: Iterable[Sequence[Any]], most: int) -> list[dict[str, Any]]:
    """The rows by column. Raises ``Fail`` where a name is there twice, or there are more rows than may be."""
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise Fail(f'two columns are called "{twice[0]}": give one another name with AS')
    found = [dict(zip(columns, map(plain, row), strict=True)) for row in rows]
    if len(found) > most:
        raise Fail(f"there are more than {most} rows: write a LIMIT, or raise maxRows")
    return found


def plain(value: Any) -> Any:
    """A value of a column; what JSON has no form for is text: exact numbers, moments, and bytes in Base64."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, Decimal | UUID):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return str(value)
