"""Parse templates: Jinja2's expression grammar with its precedence, plus ``??``, ``a ? b : c`` and ``contains``.

``??`` binds tighter than arithmetic and looser than filters: ``a ?? 0 + 1`` is ``(a ?? 0) + 1`` and
``a ?? b | upper`` is ``a ?? (b | upper)``. Like Jinja2's, ``**`` groups from the left and a filter or test
belongs to the operand before it. Statements are ``if``, ``for`` and ``raw``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NoReturn

from hub.errors import ExpressionError, did_you_mean
from hub.expressions import nodes
from hub.expressions.nodes import Node
from hub.expressions.tokens import LONGEST_TEMPLATE, Segment, Token, segments_of, tokens_of

MOST_NODES = 10_000
MOST_DEPTH = 40
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
_COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">="})
_STATEMENTS = ("if", "elif", "else", "endif", "for", "endfor", "raw")


@lru_cache(maxsize=4096)
def parse_template(source: str) -> nodes.TemplateTree:
    """The tree of a template. Raises ``ExpressionError`` with the place in it."""
    return _TemplateParser(source).parse()


class _TemplateParser:
    """Text, outputs and statements."""

    def __init__(self, source: str) -> None:
        self._source = source
        # cut as it is read: what cannot be read stops the cutting
        self._segments = segments_of(source)
        self._count = 0
        self._depth = 0

    def parse(self) -> nodes.TemplateTree:
        source = self._source
        if "{{" not in source and "{%" not in source:
            text = (nodes.Text(0, len(source), source),) if source else ()
            return nodes.TemplateTree(source, text, len(text))
        if len(source) > LONGEST_TEMPLATE:
            raise ExpressionError(
                f"a text with expressions has at most {LONGEST_TEMPLATE:,} characters", end=len(source)
            )
        parts, ended_by = self._parts(())
        if ended_by is not None:
            word = _word(ended_by[1])
            raise ExpressionError(
                f"{{% {word} %}} has no beginning", start=ended_by[0].start, end=ended_by[0].end
            )
        return nodes.TemplateTree(self._source, parts, self._count)

    def _parts(self, closers: tuple[str, ...]) -> tuple[tuple[Node, ...], tuple[Segment, _Parser] | None]:
        """Parts up to a statement that closes the block around them."""
        found: list[Node] = []
        for segment in self._segments:
            if segment.kind == "text":
                found.append(nodes.Text(segment.start, segment.end, segment.text))
                continue
            parser = _Parser(self._source, segment.inner_start, segment.inner_end, self._count, self._depth)
            if segment.kind == "output":
                value = parser.whole("}}")
                found.append(nodes.Output(segment.start, segment.end, value))
                self._count = parser.count
                continue
            word = _word(parser)
            if word in closers or word in ("elif", "else", "endif", "endfor"):
                return tuple(found), (segment, parser)
            found.append(self._statement(segment, parser, word))
        return tuple(found), None

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
        test = self._tail(parser)
        while True:
            body, ended = self._parts(("elif", "else", "endif"))
            branches.append((test, body))
            closing, parser, word = self._ended(opening, ended, "if", ("elif", "else", "endif"))
            parser.advance()
            if word == "elif":
                test = self._tail(parser)
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
        targets = [parser.identifier("a name for each value")]
        if parser.take(","):
            targets.append(parser.identifier("a second name"))
        if not parser.take_word("in"):
            parser.fail('expected "in"')
        values = parser.logic_or()
        condition = parser.logic_or() if parser.take_word("if") else None
        parser.expect_end("%}")
        self._count = parser.count
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
        return nodes.For(opening.start, closing.end, tuple(targets), values, condition, body, otherwise)

    def _tail(self, parser: _Parser) -> Node:
        node = parser.whole("%}")
        self._count = parser.count
        return node

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


class _Parser:
    """A precedence parser over the tokens of one tag."""

    def __init__(self, source: str, start: int, end: int, count: int = 0, depth: int = 0) -> None:
        self._tokens = tokens_of(source, start, end)
        self._at = 0
        self.token: Token = self._tokens[0]
        self.count = count
        self._depth = depth
        self._depths: dict[int, int] = {}
        self._tag_start = start

    # -- tokens

    def advance(self) -> Token:
        token = self.token
        if token.kind != "end":
            self._at += 1
            self.token = self._tokens[self._at]
        return token

    def take(self, operator: str) -> bool:
        if self.token.kind == "operator" and self.token.text == operator:
            self.advance()
            return True
        return False

    def take_word(self, word: str) -> bool:
        if self._is_word(word):
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

    def _is_word(self, word: str) -> bool:
        return self.token.kind == "name" and self.token.text == word

    def _is_operator(self, *operators: str) -> bool:
        return self.token.kind == "operator" and self.token.text in operators

    def _expect(self, operator: str) -> Token:
        if not self._is_operator(operator):
            self.fail(f'expected "{operator}"')
        return self.advance()

    def _made(self, node: Node) -> Node:
        self.count += 1
        if self.count > MOST_NODES:
            raise ExpressionError("the template is too large", start=node.start, end=node.end)
        below = max((self._depths.get(id(child), 0) for child in nodes.children(node)), default=0)
        if below >= _DEEPEST_TREE:
            raise ExpressionError("the expression is nested too deep", start=node.start, end=node.end)
        self._depths[id(node)] = below + 1
        return node

    # -- expressions, loosest first

    def whole(self, closer: str) -> Node:
        """One expression up to the tag's end."""
        if self.token.kind == "end":
            raise ExpressionError(
                "the expression is empty", start=self._tag_start, end=max(self.token.end, self._tag_start + 1)
            )
        node = self.expression()
        if self.token.kind != "end":
            hint = None
            if self._is_operator("="):
                hint = 'compare with "=="'
            elif self.token.kind == "operator" and self.token.text == ",":
                hint = "put a list in brackets: [a, b]"
            self.fail(f'expected an operator or "{closer}"', hint)
        return node

    def expression(self) -> Node:
        """Any expression, conditions included."""
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise ExpressionError(
                "the expression is nested too deep", start=self.token.start, end=self.token.end
            )
        node = self.logic_or()
        while True:
            if self.take("?"):
                then = self.expression()
                self._expect(":")
                otherwise: Node | None = self.expression()
                assert otherwise is not None
                node = self._made(nodes.Condition(node.start, otherwise.end, node, then, otherwise))
            elif self.take_word("if"):
                test = self.logic_or()
                otherwise = self.expression() if self.take_word("else") else None
                end = otherwise.end if otherwise is not None else test.end
                node = self._made(nodes.Condition(node.start, end, test, node, otherwise))
            else:
                break
        self._depth -= 1
        return node

    def logic_or(self) -> Node:
        left = self._and()
        while self.take_word("or"):
            right = self._and()
            left = self._made(nodes.Logic(left.start, right.end, "or", left, right))
        return left

    def _and(self) -> Node:
        left = self._not()
        while self.take_word("and"):
            right = self._not()
            left = self._made(nodes.Logic(left.start, right.end, "and", left, right))
        return left

    def _not(self) -> Node:
        start = self.token.start
        count = 0
        while self._is_word("not"):
            self.advance()
            count += 1
        node = self._compare()
        for _ in range(count):
            node = self._made(nodes.Unary(start, node.end, "not", node))
        return node

    def _compare(self) -> Node:
        first = self._sum()
        rest: list[tuple[str, Node]] = []
        while True:
            if (
                (self.token.kind == "operator" and self.token.text in _COMPARISONS)
                or self._is_word("in")
                or self._is_word("contains")
            ):
                operator = self.advance().text
            elif self._is_word("not") and self._tokens[self._at + 1].text == "in":
                self.advance()
                self.advance()
                operator = "not in"
            else:
                break
            rest.append((operator, self._sum()))
        if not rest:
            return first
        return self._made(nodes.Compare(first.start, rest[-1][1].end, first, tuple(rest)))

    def _sum(self) -> Node:
        left = self._concatenation()
        while self._is_operator("+", "-"):
            operator = self.advance().text
            right = self._concatenation()
            left = self._made(nodes.Binary(left.start, right.end, operator, left, right))
        return left

    def _concatenation(self) -> Node:
        left = self._product()
        while self.take("~"):
            right = self._product()
            left = self._made(nodes.Binary(left.start, right.end, "~", left, right))
        return left

    def _product(self) -> Node:
        left = self.coalesced()
        while self._is_operator("*", "/", "//", "%"):
            operator = self.advance().text
            right = self.coalesced()
            left = self._made(nodes.Binary(left.start, right.end, operator, left, right))
        return left

    def coalesced(self) -> Node:
        """``a ?? b ?? c``: the first that is there and not null."""
        operands = [self._power()]
        while self.take("??"):
            operands.append(self._power())
        node = operands.pop()
        while operands:
            left = operands.pop()
            node = self._made(nodes.Coalesce(left.start, node.end, left, node))
        return node

    def _power(self) -> Node:
        left = self._unary()
        while self.take("**"):
            right = self._unary()
            left = self._made(nodes.Binary(left.start, right.end, "**", left, right))
        return left

    def _unary(self) -> Node:
        signs: list[Token] = []
        while self._is_operator("-", "+"):
            signs.append(self.advance())
        node = self._postfix(self._primary())
        for sign in reversed(signs):
            node = self._made(nodes.Unary(sign.start, node.end, sign.text, node))
        return self._filters_and_tests(node)

    def _primary(self) -> Node:
        token = self.token
        if token.kind == "name":
            if token.text in _WORDS:
                self.advance()
                return self._made(nodes.Literal(token.start, token.end, _WORDS[token.text]))
            if token.text in _KEYWORDS:
                self.fail("expected a value")
            self.advance()
            if self._is_operator("("):
                arguments, named, end = self._arguments()
                return self._made(nodes.Call(token.start, end, token.text, token.end, arguments, named))
            return self._made(nodes.Name(token.start, token.end, token.text))
        if token.kind == "string":
            return self._strings()
        if token.kind in ("integer", "float"):
            self.advance()
            return self._made(nodes.Literal(token.start, token.end, token.value))
        if self.take("("):
            return self._parenthesis(token)
        if self.take("["):
            items = self._items("]")
            return self._made(nodes.ListOf(token.start, self.advance().end, items))
        if self.take("{"):
            return self._mapping(token)
        self.fail("expected a value")

    def _strings(self) -> Node:
        """Texts beside each other are one, as in Jinja2."""
        first = self.advance()
        value, end = str(first.value), first.end
        while self.token.kind == "string":
            token = self.advance()
            value, end = value + str(token.value), token.end
        return self._made(nodes.Literal(first.start, end, value))

    def _parenthesis(self, opening: Token) -> Node:
        if self._is_operator(")"):
            return self._made(nodes.ListOf(opening.start, self.advance().end, ()))
        node = self.expression()
        if not self._is_operator(","):
            self._expect(")")
            return node
        items = [node]
        while self.take(","):
            if self._is_operator(")"):
                break
            items.append(self.expression())
        return self._made(nodes.ListOf(opening.start, self._expect(")").end, tuple(items)))

    def _items(self, closer: str) -> tuple[Node, ...]:
        items: list[Node] = []
        while not self._is_operator(closer):
            items.append(self.expression())
            if not self.take(",") and not self._is_operator(closer):
                self.fail(f'expected "," or "{closer}"')
        return tuple(items)

    def _mapping(self, opening: Token) -> Node:
        entries: list[tuple[Node, Node]] = []
        while not self._is_operator("}"):
            key = self.expression()
            self._expect(":")
            entries.append((key, self.expression()))
            if not self.take(",") and not self._is_operator("}"):
                self.fail('expected "," or "}"')
        return self._made(nodes.MappingOf(opening.start, self.advance().end, tuple(entries)))

    def _postfix(self, node: Node) -> Node:
        depth = 0
        while True:
            if self.take("."):
                node = self._dotted(node)
            elif self._is_operator("["):
                self.advance()
                node = self._bracketed(node)
            elif self._is_operator("("):
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
            key: Node = nodes.Literal(token.start, token.end, token.text)
        elif token.kind == "integer":
            self.advance()
            key = nodes.Literal(token.start, token.end, token.value)
        elif token.kind == "float" and "." in token.text and "e" not in token.text.lower():
            # rows.0.1 is one path, not a fraction
            self.advance()
            first, _, last = token.text.replace("_", "").partition(".")
            middle = token.start + token.text.index(".")
            key = nodes.Literal(token.start, middle, int(first))
            node = self._made(nodes.Member(node.start, middle, node, key))
            key = nodes.Literal(middle + 1, token.end, int(last))
        else:
            self.fail('expected a name after "."')
        return self._made(nodes.Member(node.start, token.end, node, key))

    def _bracketed(self, node: Node) -> Node:
        first = None if self._is_operator(":") else self.expression()
        if not self._is_operator(":"):
            end = self._expect("]").end
            assert first is not None
            return self._made(nodes.Member(node.start, end, node, first))
        self.advance()
        last = None if self._is_operator(":", "]") else self.expression()
        step = None
        if self.take(":") and not self._is_operator("]"):
            step = self.expression()
        return self._made(nodes.SliceOf(node.start, self._expect("]").end, node, first, last, step))

    def _arguments(self) -> tuple[tuple[Node, ...], tuple[tuple[str, Node], ...], int]:
        self._expect("(")
        positional: list[Node] = []
        named: list[tuple[str, Node]] = []
        while not self._is_operator(")"):
            following = self._tokens[self._at + 1] if self.token.kind != "end" else self.token
            if self.token.kind == "name" and following.kind == "operator" and following.text == "=":
                name = self.advance().text
                self.advance()
                named.append((name, self.expression()))
            elif named:
                self.fail("expected a named argument: they follow the others")
            else:
                positional.append(self.expression())
            if not self.take(",") and not self._is_operator(")"):
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
                if self._is_operator("("):
                    arguments, named, end = self._arguments()
                node = self._made(
                    nodes.Filter(node.start, end, node, name.text, name.start, arguments, named)
                )
            elif self.take_word("is"):
                node = self._test(node)
            else:
                return node

    def _test(self, of: Node) -> Node:
        negated = self.take_word("not")
        name = self.token
        if name.kind != "name":
            self.fail('expected a test\'s name after "is"')
        self.advance()
        arguments: tuple[Node, ...] = ()
        end = name.end
        if self._is_operator("("):
            arguments, named, end = self._arguments()
            if named:
                raise ExpressionError("a test takes no named arguments", start=of.start, end=end)
        elif self._begins_argument():
            argument = self._postfix(self._primary())
            arguments, end = (argument,), argument.end
        return self._made(nodes.Test(of.start, end, of, name.text, name.start, arguments, negated))

    def _begins_argument(self) -> bool:
        token = self.token
        if token.kind == "name":
            return token.text not in _KEYWORDS
        return token.kind in ("string", "integer", "float") or self._is_operator("[", "{")
