"""The OpenAPI 3.1 document, out of the route table and the view models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from hub import __version__
from hub.api.routing import Route
from hub.api.views.base import ErrorView

_REF = "#/components/schemas/{model}"
_TEXT = {"schema": {"type": "string"}}
# tools that know YAML look at what is in it
_MAPPING = {"schema": {"type": "object"}}


def document(routes: Sequence[Route], url: str, *, needs_token: bool) -> dict[str, Any]:
    """The whole API as OpenAPI 3.1; what is open without a token says so."""
    models = {model for route in routes for model in (route.answer, route.body) if model is not None}
    models.add(ErrorView)
    ordered = sorted(models, key=lambda model: model.__name__)
    _, schemas = models_json_schema(
        [(model, "serialization" if model is not ErrorView else "validation") for model in ordered],
        by_alias=True,
        ref_template=_REF,
    )
    paths: dict[str, Any] = {}
    for route in routes:
        if not route.is_hidden:
            paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "asynchub", "version": __version__, "license": {"name": "Apache-2.0"}},
        "servers": [{"url": url}],
        "paths": paths,
        "components": {
            "schemas": schemas.get("$defs", {}),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}] if needs_token else [{"token": []}, {}],
    }


def _operation(route: Route) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    for query in route.query:
        schema: dict[str, Any] = {"type": query.type}
        if query.type == "integer":
            schema |= {"minimum": query.least, "maximum": query.most}
        if query.pattern is not None:
            schema["pattern"] = f"^{query.pattern}$"
        if query.repeatable:
            schema = {"type": "array", "items": schema}
        about = {"name": query.name, "in": "query", "description": query.description, "schema": schema}
        # an empty one is none
        parameters.append({**about, "allowEmptyValue": True})
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": f"{route.handler.__name__}_{route.method.lower()}",
        "parameters": parameters,
        "responses": {
            **{str(status): _answer(route) for status in (route.status, *route.also)},
            "default": {
                "description": "An error.",
                "content": {"application/json": {"schema": _schema(ErrorView)}},
            },
        },
    }
    if route.body is not None:
        content: dict[str, Any] = {"application/json": {"schema": _schema(route.body)}}
        if route.text_body is not None:
            content[route.text_body] = _text(route.text_body)
        operation["requestBody"] = {"content": content}
    elif route.any_body:
        content = {name: {"schema": schema} for name, schema in route.bodies.items()}
        operation["requestBody"] = {"content": {**content, "*/*": {"schema": {}}}}
    if route.is_open:
        operation["security"] = [{}]
    return operation


def _answer(route: Route) -> dict[str, Any]:
    if route.status == 204:
        return {"description": "Done."}
    is_text = route.media_type != "application/json"
    schema = _schema(route.answer) if route.answer is not None else {}
    content: dict[str, Any] = {route.media_type: _TEXT if is_text else {"schema": schema}}
    if route.text_answer is not None:
        content[route.text_answer] = _text(route.text_answer)
    if route.lines_answer is not None:
        content[route.lines_answer] = _TEXT
    return {"description": route.summary, "content": content}


def _text(media_type: str) -> dict[str, Any]:
    return _MAPPING if media_type.endswith("yaml") else _TEXT


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": _REF.format(model=model.__name__)}
