"""Bodies as expressions see them: JSON as data, forms as mappings, everything else as text."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from hub.plugin import HttpRequest, InvalidInput, jsontext

_FORM = "application/x-www-form-urlencoded"
_MOST_FIELDS = 1000


def read_body(request: HttpRequest) -> Any:
    """What ``trigger.body`` holds; null for an empty body. Raises ``InvalidInput``."""
    if not request.body:
        return None
    kind = request.content_type
    if kind == "application/json" or kind.endswith("+json"):
        return _json(request.body)
    looks_like_json = request.body.lstrip()[:1] in (b"{", b"[")
    if kind in ("", _FORM, "application/octet-stream") and looks_like_json:
        # curl -d says "form" whatever it sends; no form begins with a bracket
        try:
            return _json(request.body)
        except InvalidInput:
            pass
    if kind == _FORM:
        return _form(request)
    return _text(request)


def _json(body: bytes) -> Any:
    try:
        return jsontext.loads(body)
    except RecursionError:
        raise InvalidInput("the body is JSON nested too deep") from None
    except ValueError as error:
        raise InvalidInput(f"the body is not JSON: {error}") from error


def _text(request: HttpRequest) -> str:
    try:
        return request.body.decode(request.charset)
    except (UnicodeDecodeError, LookupError) as error:
        raise InvalidInput(f"the body is not {request.charset} text") from error


def _form(request: HttpRequest) -> dict[str, str | list[str]]:
    try:
        fields = parse_qs(
            _text(request), keep_blank_values=True, strict_parsing=False, max_num_fields=_MOST_FIELDS
        )
    except ValueError as error:
        raise InvalidInput(f"the form has more than {_MOST_FIELDS} fields") from error
    return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}
