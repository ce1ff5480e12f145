"""Parse templates: Jinja2's expression grammar with its precedence, plus ``??``, ``a ? b : c`` and ``contains``.

``??`` binds tighter than arithmetic and looser than filters: ``a ?? 0 + 1`` is ``(a ?? 0) + 1`` and
``a ?? b | upper`` is ``a ?? (b | upper)``. Like Jinja2's, ``**`` groups from the left and a filter or test
belongs to the operand before it. Statements are ``if``, ``for`` and ``raw``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NoReturn, TypeVar

from hub.errors import ExpressionError, did_you_mean
from hub.expressions import nodes
from hub.expressions.nodes import Node
from hub.expressions.tokens import (
    LONGEST_TEMPLATE,
    MOST_TOKENS,
    Segment,
    Token,
    segments_of,
    tokens_of,
)

T = TypeVar("T")

MOST_DEPTH = 40
MOST_TARGETS = 10
_DEEPEST_TREE = 200
_WORDS = {
    "true": True,
    "false": False,
    "none": None,
    "null": None,
    "True": True,
    "False": False,
    "None": None,
}
_KEYWORDS = frozenset({"and", "or", "not", "in", "is", "if", "else", "contains"})
_NO_NAMES = _KEYWORDS | _WORDS.keys()
_STATEMENTS = ("if", "elif", "else", "endif", "for", "endfor", "raw")

# how tight an operator binds: of two, the tighter one is applied first
_OR, _AND, _NOT, _COMPARED, _SUMMED, _JOINED, _MULTIPLIED, _COALESCED, _POWERED = range(1, 10)
_BINDS = {
    "or": _OR,
    "and": _AND,
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">=", "in", "contains", "not"), _COMPARED),
    **dict.fromkeys(("+", "-"), _SUMMED),
    "~": _JOINED,
    **dict.fromkeys(("*", "/", "//", "%"), _MULTIPLIED),
    "??": _COALESCED,
    "**": _POWERED,
}


@lru_cache(maxsize=4096)
def parse_template(source: str) -> nodes.TemplateTree:
    """The tree of a template. Raises ``ExpressionError`` with the place in it."""
    return _TemplateParser(source).parse()


class _TemplateParser:
    """Text, outputs and statements."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._tokens = 0
        self._depth = 0

    def parse(self) -> nodes.TemplateTree:
        source = self._source
        if "{{" not in source and "{%" not in source:
            text = (nodes.Text(0, len(source), source),) if source else ()
            return nodes.TemplateTree(source, text)
        if len(source) > LONGEST_TEMPLATE:
            raise ExpressionError(
                f"a text with expressions has at most {LONGEST_TEMPLATE:,} characters", end=len(source)
            )
        # all of it is cut before any is parsed: what has too many tags costs no more than the cutting
        self._segments = iter(segments_of(source))
        parts, ended_by = self._parts(())
        if ended_by is not None:
            word = _word(ended_by[1])
            raise ExpressionError(
                f"{{% {word} %}} has no beginning", start=ended_by[0].start, end=ended_by[0].end
            )
        return nodes.TemplateTree(self._source, parts)

    def _parts(self, closers: tuple[str, ...]) -> tuple[tuple[Node, ...], tuple[Segment, _Parser] | None]:
        """Parts up to a statement that closes the block around them."""
        found: list[Node] = []
        for segment in self._segments:
            if segment.kind == "text":
                found.append(nodes.Text(segment.start, segment.end, segment.text))
                continue
            if segment.kind == "path":
                path = self._path(segment)
                if path is not None:
                    found.append(nodes.Output(segment.start, segment.end, path))
                    continue
            parser = self._parser(segment)
            if segment.kind != "statement":
                found.append(nodes.Output(segment.start, segment.end, self._whole(parser, "}}")))
                continue
            word = _word(parser)
            if word in closers or word in ("elif", "else", "endif", "endfor"):
                return tuple(found), (segment, parser)
            found.append(self._statement(segment, parser, word))
        return tuple(found), None

    def _path(self, segment: Segment) -> Node | None:
        """Names joined by dots, read without tokens; None where the first is a word of the grammar."""
        names = segment.text.split(".")
        if names[0] in _NO_NAMES or len(names) > MOST_DEPTH:
            return None
        self._tokens += len(names)
        if self._tokens > MOST_TOKENS:
            raise ExpressionError("the template is too large", start=segment.start, end=segment.end)
        start = segment.inner_start
        end = start + len(names[0])
        node: Node = nodes.Name(start, end, names[0])
        for depth, name in enumerate(names[1:], 2):
            key = nodes.Literal(end + 1, end + 1 + len(name), name)
            end = key.end
            node = nodes.Member(start, end, node, key)
            node.depth = depth
        return node

    def _parser(self, segment: Segment) -> _Parser:
        parser = _Parser(
            self._source, segment.inner_start, segment.inner_end, MOST_TOKENS - self._tokens, self._depth
        )
        self._tokens += parser.size
        return parser

    def _whole(self, parser: _Parser, closer: str) -> Node:
        return self._read(parser, lambda: parser.whole(closer))

    def _read(self, parser: _Parser, read: Callable[[], T]) -> T:
        try:
            return read()
        except ExpressionError as error:
            raise _dashed(error, self._source, parser.start, parser.end) from None

    def _statement(self, segment: Segment, parser: _Parser, word: str) -> Node:
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise ExpressionError("the statements are nested too deep", start=segment.start, end=segment.end)
        try:
            if word == "if":
                return self._if(segment, parser)
            if word == "for":
                return self._for(segment, parser)
        finally:
            self._depth -= 1
        if word == "endraw":
            raise ExpressionError("{% endraw %} has no beginning", start=segment.start, end=segment.end)
        raise ExpressionError(
            f'unknown statement "{word}"' if word else "the statement is empty",
            start=segment.inner_start,
            end=segment.inner_end,
            hint=did_you_mean(word, _STATEMENTS) or "there are if, for and raw",
        )

    def _if(self, opening: Segment, parser: _Parser) -> Node:
        branches: list[tuple[Node, tuple[Node, ...]]] = []
        otherwise: tuple[Node, ...] = ()
        parser.advance()
        test = self._whole(parser, "%}")
        while True:
            body, ended = self._parts(("elif", "else", "endif"))
            branches.append((test, body))
            closing, parser, word = self._ended(opening, ended, "if", ("elif", "else", "endif"))
            parser.advance()
            if word == "elif":
                test = self._whole(parser, "%}")
                continue
            parser.expect_end("%}")
            if word == "else":
                otherwise, ended = self._parts(("endif",))
                closing, parser, _ = self._ended(opening, ended, "if", ("endif",))
                parser.advance()
                parser.expect_end("%}")
            return nodes.If(opening.start, closing.end, tuple(branches), otherwise)

    def _for(self, opening: Segment, parser: _Parser) -> Node:
        parser.advance()
        targets, values, condition = self._read(parser, parser.loop)
        body, ended = self._parts(("else", "endfor"))
        closing, parser, word = self._ended(opening, ended, "for", ("else", "endfor"))
        otherwise: tuple[Node, ...] = ()
        parser.advance()
        parser.expect_end("%}")
        if word == "else":
            otherwise, ended = self._parts(("endfor",))
            closing, parser, _ = self._ended(opening, ended, "for", ("endfor",))
            parser.advance()
            parser.expect_end("%}")
        return nodes.For(opening.start, closing.end, targets, values, condition, body, otherwise)

    def _ended(
        self, opening: Segment, ended: tuple[Segment, _Parser] | None, word: str, allowed: tuple[str, ...]
    ) -> tuple[Segment, _Parser, str]:
        if ended is None:
            raise ExpressionError(
                f"{{% {word} %}} is not closed",
                start=opening.start,
                end=opening.end,
                hint=f"close it with {{% end{word} %}}",
            )
        segment, parser = ended
        found = _word(parser)
        if found not in allowed:
            raise ExpressionError(
                f"{{% {found} %}} does not belong to {{% {word} %}}", start=segment.start, end=segment.end
            )
        return segment, parser, found


def _word(parser: _Parser) -> str:
    token = parser.token
    return token.text if token.kind == "name" else ""


_LONGEST_DASHED = 100
_DASHED = re.compile(
    r"(?P<of>[^\W\d]\w*+(?:\.\w++|\[[^\[\]]*+\])*?)\.(?P<name>\w++(?:-\w++)++)(?P<rest>(?:\.\w++|\[[^\[\]]*+\])*+)"
)
"""A path with a dash in one of its names, which the grammar reads as a minus."""


def _dashed(error: ExpressionError, source: str, start: int, end: int) -> ExpressionError:
    """The error of a tag, in other words where it comes from a dash: ``outputs.a-in.value``."""
    # near the error only: what is looked for is a path that holds it
    near = max(start, error.start - _LONGEST_DASHED), min(end, error.start + _LONGEST_DASHED)
    for hit in _DASHED.finditer(source, *near):
        if hit.start() <= error.start < hit.end():
            return ExpressionError(
                "a dash is a minus here",
                start=hit.start(),
                end=hit.end(),
                hint=f"write {hit['of']}['{hit['name']}']{hit['rest']}",
            )
    return error


class _Parser:
    """A precedence parser over the tokens of one tag."""

    def __init__(self, source: str, start: int, end: int, most: int, depth: int) -> None:
        self._tokens = tokens_of(source, start, end, most)
        self._at = 0
        self._depth = depth
        self.token: Token = self._tokens[0]
        self.size = len(self._tokens) - 1
        self.start = start
        self.end = end

    # -- tokens

    def advance(self) -> Token:
        token = self.token
        if token.kind != "end":
            self._at += 1
            self.token = self._tokens[self._at]
        return token

    def take(self, text: str) -> bool:
        """Go past an operator or a word of the grammar, if it is the next."""
        if self.token.text == text:
            self.advance()
            return True
        return False

    def identifier(self, what: str) -> str:
        if self.token.kind != "name" or self.token.text in _KEYWORDS:
            self.fail(f"expected {what}")
        return self.advance().text

    def expect_end(self, closer: str) -> None:
        if self.token.kind != "end":
            self.fail(f'expected "{closer}"')

    def fail(self, message: str, hint: str | None = None) -> NoReturn:
        token = self.token
        got = f'"{token.text}"' if token.kind != "end" else "the end"
        raise ExpressionError(
            f"{message}, got {got}", start=token.start, end=max(token.end, token.start + 1), hint=hint
        )

    def _expect(self, operator: str) -> Token:
        if self.token.text != operator:
            self.fail(f'expected "{operator}"')
        return self.advance()

    def _made(self, node: Node, *below: Node) -> Node:
        """A node above others, unless it is too far above."""
        depth = max([one.depth for one in below])
        if depth >= _DEEPEST_TREE:
            raise ExpressionError("the expression is nested too deep", start=node.start, end=node.end)
        node.depth = depth + 1
        return node

    # -- expressions, loosest first

    def whole(self, closer: str) -> Node:
        """One expression up to the tag's end."""
        if self.token.kind == "end":
            raise ExpressionError(
                "the expression is empty", start=self.start, end=max(self.token.end, self.start + 1)
            )
        node = self.expression()
        if self.token.kind != "end":
            hints = {"=": 'compare with "=="', ",": "put a list in brackets: [a, b]"}
            self.fail(f'expected an operator or "{closer}"', hints.get(self.token.text))
        return node

    def loop(self) -> tuple[tuple[str, ...], Node, Node | None]:
        """``x, y in values if condition``: the names, the values and the condition."""
        targets = self._targets()
        if not self.take("in"):
            self.fail('expected "in"')
        values = self.operators(_OR)
        if self.token.text == ",":
            items = [values]
            while self.take(",") and self.token.text not in ("if", "") and self.token.kind != "end":
                items.append(self.operators(_OR))
            values = self._made(nodes.ListOf(values.start, items[-1].end, tuple(items)), *items)
        condition = self.operators(_OR) if self.take("if") else None
        self.expect_end("%}")
        return targets, values, condition

    def _targets(self) -> tuple[str, ...]:
        bracketed = self.take("(")
        targets = [self._target("a name for each value")]
        while self.take(","):
            if self.token.text in (")", "in") and len(targets) > 1:
                break
            targets.append(self._target("another name"))
        if bracketed:
            self._expect(")")
        if len(targets) > MOST_TARGETS:
            self.fail(f"a loop has at most {MOST_TARGETS} names")
        return tuple(targets)

    def _target(self, what: str) -> str:
        if self.token.text == "loop":
            self.fail('a loop cannot name its values "loop", which tells about the loop itself')
        return self.identifier(what)

    def expression(self) -> Node:
        """Any expression, conditions included."""
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise ExpressionError(
                "the expression is nested too deep", start=self.token.start, end=self.token.end
            )
        node = self.operators(_OR)
        while True:
            if self.take("?"):
                then = self.expression()
                self._expect(":")
                last = self.expression()
                node = self._made(nodes.Condition(node.start, last.end, node, then, last), node, then, last)
            elif self.take("if"):
                test = self.operators(_OR)
                if self.take("else"):
                    last = self.expression()
                    node = self._made(
                        nodes.Condition(node.start, last.end, test, node, last), test, node, last
                    )
                else:
                    node = self._made(nodes.Condition(node.start, test.end, test, node, None), test, node)
            else:
                break
        self._depth -= 1
        return node

    def operators(self, least: int) -> Node:
        """Operands and the operators between them that bind at least so tight."""
        left = self._not() if self.token.text == "not" and least <= _NOT else self._unary()
        while True:
            text = self.token.text
            binds = _BINDS.get(text, 0)
            if binds < least or not binds:
                return left
            if binds == _COMPARED:
                compared = self._compared(left)
                if compared is left:
                    return left
                left = compared
            elif binds == _COALESCED:
                left = self._coalesced(left)
            else:
                self.advance()
                right = self.operators(binds + 1)
                made = nodes.Logic if binds <= _AND else nodes.Binary
                left = self._made(made(left.start, right.end, text, left, right), left, right)

    def _not(self) -> Node:
        start = self.token.start
        count = 0
        while self.take("not"):
            count += 1
        node = self.operators(_COMPARED)
        for _ in range(count):
            node = self._made(nodes.Unary(start, node.end, "not", node), node)
        return node

    def _compared(self, first: Node) -> Node:
        rest: list[tuple[str, Node]] = []
        while _BINDS.get(self.token.text) == _COMPARED:
            operator = self.token.text
            if operator == "not":
                if self._tokens[self._at + 1].text != "in":
                    break
                self.advance()
                operator = "not in"
            self.advance()
            rest.append((operator, self.operators(_SUMMED)))
        if not rest:
            return first
        operands = [operand for _, operand in rest]
        return self._made(nodes.Compare(first.start, operands[-1].end, first, tuple(rest)), first, *operands)

    def _coalesced(self, left: Node) -> Node:
        """``a ?? b ?? c``: the first that is there and not null."""
        operands = [left]
        while self.take("??"):
            operands.append(self.operators(_POWERED))
        node = operands.pop()
        while operands:
            left = operands.pop()
            node = self._made(nodes.Coalesce(left.start, node.end, left, node), left, node)
        return node

    def _unary(self) -> Node:
        if self.token.text not in ("-", "+"):
            return self._filters_and_tests(self._postfix(self._primary()))
        signs: list[Token] = []
        while self.token.text in ("-", "+"):
            signs.append(self.advance())
        node = self._postfix(self._primary())
        for sign in reversed(signs):
            node = self._made(nodes.Unary(sign.start, node.end, sign.text, node), node)
        return self._filters_and_tests(node)

    def _primary(self) -> Node:
        token = self.token
        if token.kind == "name":
            if token.text in _WORDS:
                self.advance()
                return nodes.Literal(token.start, token.end, _WORDS[token.text])
            if token.text in _KEYWORDS:
                self.fail("expected a value")
            self.advance()
            if self.token.text == "(":
                arguments, named, end = self._arguments()
                call = nodes.Call(token.start, end, token.text, token.end, arguments, named)
                below = [*arguments, *(value for _, value in named)]
                return self._made(call, *below) if below else call
            return nodes.Name(token.start, token.end, token.text)
        if token.kind == "string":
            return self._strings()
        if token.kind in ("integer", "float"):
            self.advance()
            return nodes.Literal(token.start, token.end, token.value)
        if self.take("("):
            return self._parenthesis(token)
        if self.take("["):
            items = self._items("]")
            return self._list(token.start, self.advance().end, items)
        if self.take("{"):
            return self._mapping(token)
        self.fail("expected a value")

    def _list(self, start: int, end: int, items: list[Node]) -> Node:
        made = nodes.ListOf(start, end, tuple(items))
        return self._made(made, *items) if items else made

    def _strings(self) -> Node:
        """Texts beside each other are one, as in Jinja2."""
        first = self.advance()
        values, end = [str(first.value)], first.end
        while self.token.kind == "string":
            token = self.advance()
            values.append(str(token.value))
            end = token.end
        return nodes.Literal(first.start, end, "".join(values))

    def _parenthesis(self, opening: Token) -> Node:
        if self.token.text == ")":
            return self._list(opening.start, self.advance().end, [])
        node = self.expression()
        if self.token.text != ",":
            self._expect(")")
            return node
        items = [node]
        while self.take(","):
            if self.token.text == ")":
                break
            items.append(self.expression())
        return self._list(opening.start, self._expect(")").end, items)

    def _items(self, closer: str) -> list[Node]:
        items: list[Node] = []
        while self.token.text != closer:
            items.append(self.expression())
            if not self.take(",") and self.token.text != closer:
                self.fail(f'expected "," or "{closer}"')
        return items

    def _mapping(self, opening: Token) -> Node:
        entries: list[tuple[Node, Node]] = []
        while self.token.text != "}":
            key = self.expression()
            self._expect(":")
            entries.append((key, self.expression()))
            if not self.take(",") and self.token.text != "}":
                self.fail('expected "," or "}"')
        made = nodes.MappingOf(opening.start, self.advance().end, tuple(entries))
        return self._made(made, *(node for entry in entries for node in entry)) if entries else made

    def _postfix(self, node: Node) -> Node:
        depth = 0
        while True:
            text = self.token.text
            if text == ".":
                self.advance()
                node = self._dotted(node)
            elif text == "[":
                self.advance()
                node = self._bracketed(node)
            elif text == "(":
                raise ExpressionError(
                    "only functions can be called; values have no methods",
                    start=node.start,
                    end=self.token.end,
                    hint="use a filter: value | name(…)",
                )
            else:
                return node
            depth += 1
            if depth > 4 * MOST_DEPTH:
                raise ExpressionError("the path is too long", start=node.start, end=node.end)

    def _dotted(self, node: Node) -> Node:
        token = self.token
        if token.kind == "name":
            self.advance()
            key = nodes.Literal(token.start, token.end, token.text)
        elif token.kind == "integer":
            self.advance()
            key = nodes.Literal(token.start, token.end, token.value)
        elif token.kind == "float" and "." in token.text and "e" not in token.text.lower():
            # rows.0.1 is one path, not a fraction
            self.advance()
            first, _, last = token.text.replace("_", "").partition(".")
            middle = token.start + token.text.index(".")
            key = nodes.Literal(token.start, middle, int(first))
            node = self._made(nodes.Member(node.start, middle, node, key), node)
            key = nodes.Literal(middle + 1, token.end, int(last))
        else:
            self.fail('expected a name after "."')
        return self._made(nodes.Member(node.start, token.end, node, key), node)

    def _bracketed(self, node: Node) -> Node:
        first = None if self.token.text == ":" else self.expression()
        if self.token.text != ":":
            end = self._expect("]").end
            assert first is not None
            return self._made(nodes.Member(node.start, end, node, first), node, first)
        self.advance()
        last = None if self.token.text in (":", "]") else self.expression()
        step = None
        if self.take(":") and self.token.text != "]":
            step = self.expression()
        made = nodes.SliceOf(node.start, self._expect("]").end, node, first, last, step)
        return self._made(made, node, *(bound for bound in (first, last, step) if bound is not None))

    def _arguments(self) -> tuple[tuple[Node, ...], tuple[tuple[str, Node], ...], int]:
        self._expect("(")
        positional: list[Node] = []
        named: list[tuple[str, Node]] = []
        while self.token.text != ")":
            if self.token.kind == "name" and self._tokens[self._at + 1].text == "=":
                name = self.advance().text
                self.advance()
                named.append((name, self.expression()))
            elif named:
                self.fail("expected a named argument: they follow the others")
            else:
                positional.append(self.expression())
            if not self.take(",") and self.token.text != ")":
                self.fail('expected "," or ")"')
        return tuple(positional), tuple(named), self.advance().end

    def _filters_and_tests(self, node: Node) -> Node:
        while True:
            if self.take("|"):
                name = self.token
                if name.kind != "name":
                    self.fail('expected a filter\'s name after "|"')
                self.advance()
                arguments: tuple[Node, ...] = ()
                named: tuple[tuple[str, Node], ...] = ()
                end = name.end
                if self.token.text == "(":
                    arguments, named, end = self._arguments()
                node = self._made(
                    nodes.Filter(node.start, end, node, name.text, name.start, arguments, named),
                    node,
                    *arguments,
                    *(value for _, value in named),
                )
            elif self.take("is"):
                node = self._test(node)
            else:
                return node

    def _test(self, of: Node) -> Node:
        negated = self.take("not")
        name = self.token
        if name.kind != "name":
            self.fail('expected a test\'s name after "is"')
        self.advance()
        arguments: tuple[Node, ...] = ()
        end = name.end
        if self.token.text == "(":
            arguments, named, end = self._arguments()
            if named:
                raise ExpressionError("a test takes no named arguments", start=of.start, end=end)
        elif self._begins_argument():
            argument = self._postfix(self._primary())
            arguments, end = (argument,), argument.end
        return self._made(
            nodes.Test(of.start, end, of, name.text, name.start, arguments, negated), of, *arguments
        )

    def _begins_argument(self) -> bool:
        token = self.token
        if token.kind == "name":
            return token.text not in _KEYWORDS
        return token.kind in ("string", "integer", "float") or token.text in ("[", "{")
