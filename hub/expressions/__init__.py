"""Expressions: text with ``{{ }}`` and ``{% %}``, parsed, checked and evaluated over plain JSON values.

The grammar is Jinja2's with ``??``, ``a ? b : c`` and ``contains``; the evaluator is ours: closures without
attribute access, code generation or unbounded work.
"""

from hub.expressions.check import Finding, check_template, find_expressions_naming, shape_of_template
from hub.expressions.compile import Template, compile_template
from hub.expressions.frame import Request
from hub.expressions.functions import Function, FunctionTable, NeedsAnswer, builtin_functions
from hub.expressions.nodes import TemplateTree, names_in
from hub.expressions.parse import parse_template
from hub.expressions.reading import values_read
from hub.expressions.shapes import (
    ANY,
    BOOLEAN,
    NULL,
    NUMBER,
    TEXT,
    ListShape,
    ObjectShape,
    Shape,
    merge,
    shape_of_json_schema,
)
from hub.expressions.tokens import strip_raw

__all__ = [
    "ANY",
    "BOOLEAN",
    "NULL",
    "NUMBER",
    "TEXT",
    "Finding",
    "Function",
    "FunctionTable",
    "ListShape",
    "NeedsAnswer",
    "ObjectShape",
    "Request",
    "Shape",
    "Template",
    "TemplateTree",
    "builtin_functions",
    "check_template",
    "compile_template",
    "find_expressions_naming",
    "merge",
    "names_in",
    "parse_template",
    "shape_of_json_schema",
    "shape_of_template",
    "strip_raw",
    "values_read",
]
