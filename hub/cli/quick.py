"""One small HTTP request with a short limit: for Tab completion and the doctor, which must not wait for a hub.

The client proper costs 0.2 s to load, more than a shell may wait.
"""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

_LARGEST = 4 * 1024 * 1024


def get_json(url: str, path: str, *, token: str | None = None, timeout: float = 0.5) -> tuple[int, Any]:
    """The status and the JSON of a GET. Raises ``OSError`` or ``ValueError`` when there is none."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f'"{url}" is no http:// or https:// address')
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=timeout)
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request("GET", parts.path.rstrip("/") + path, headers=headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read(_LARGEST))
    except http.client.HTTPException as error:
        raise ValueError(f"no HTTP answer: {error!r}") from error
    finally:
        connection.close()
