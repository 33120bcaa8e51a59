"""Tree of a Go template, from its tokens.

Follows the documented grammar of text/template, with ``break`` and ``continue``,
``else with`` and ranges over integers. Unknown functions and variables are
errors here, with their line. Nesting is limited, as the tree becomes Python.
"""

from __future__ import annotations

from collections.abc import Collection

from pyconsul_template.ctmpl.constants import char_value, number_value, unquoted
from pyconsul_template.ctmpl.errors import GoSyntaxError
from pyconsul_template.ctmpl.lexer import Kind, Token, line_of, tokens
from pyconsul_template.ctmpl.nodes import (
    Action,
    Branch,
    Call,
    Chain,
    Command,
    Dot,
    Function,
    Jump,
    Literal,
    Nil,
    Node,
    Pipe,
    Text,
    Tree,
    Variable,
)

BLOCKS_MAX = 60
"""Control structures within each other."""
RANGES_MAX = 18
"""Loops within each other."""
CHAIN_MAX = 100
"""Branches by ``else if``, counted with those of the blocks around."""
PARENS_MAX = 40
"""Parentheses within each other."""

_OPERANDS = frozenset(
    (
        *(Kind.BOOL, Kind.CHAR, Kind.DOT, Kind.FIELD, Kind.WORD, Kind.NUMBER),
        *(Kind.NIL, Kind.RAW, Kind.STRING, Kind.VARIABLE, Kind.OPEN),
    )
)


def parse(text: str, functions: Collection[str], left: str, right: str) -> Tree:
    """Return the tree of a template; raises ``GoSyntaxError``.

    ``functions`` are the names that may be called.
    """
    return _Parser(text, functions, left, right).tree()


class _Parser:
    def __init__(
        self, text: str, functions: Collection[str], left: str, right: str
    ) -> None:
        self._text = text
        self._functions = functions
        self._tokens, self._broken = tokens(text, left, right)
        self._next = 0
        self._farthest = 0
        """The last token looked at: its line is that of an error."""
        self._slots = 0
        self._scope: list[Variable] = []
        self._definitions: dict[str, list[Node]] = {}
        self._filled: set[str] = set()
        """Definitions that are not empty."""
        self._blocks = 0
        self._ranges = 0
        self._parens = 0
        self._chain = 0

    def tree(self) -> Tree:
        self._scope = [Variable(0, "$", 0)]
        body, end = self._list(())
        if end is not None:
            if not (end.text == "else" and self._skip().text == "if"):
                self._close(end.text)
            raise self._error(f"unexpected {{{{{end.text}}}}}")
        if "" in self._filled and not _is_empty(body):
            raise self._error('multiple definition of template ""')
        return Tree(self._text, body, self._definitions)

    # Tokens

    def _error(self, text: str) -> GoSyntaxError:
        token = self._tokens[self._farthest]
        # White space before a trim marker is none of the delimiter's.
        at = token.at + (token.kind is Kind.RIGHT and token.text.lstrip() != token.text)
        return GoSyntaxError(line_of(self._text, at), text)

    def _take(self) -> Token:
        token = self._peek()
        if token.kind is not Kind.END:
            self._next += 1
        return token

    def _peek(self) -> Token:
        at = self._next
        if at >= self._farthest:
            self._farthest = at
            if at >= len(self._tokens):
                raise self._broken
        return self._tokens[at]

    def _skip(self) -> Token:
        """Skip white space; return the token after it, not taken."""
        while (token := self._peek()).kind is Kind.SPACE:
            self._next += 1
        return token

    def _unexpected(self, token: Token, context: str) -> GoSyntaxError:
        if token.kind is Kind.END:
            return self._error("unexpected EOF")
        return self._error(f"unexpected {token.text!r} in {context}")

    def _close(self, context: str) -> None:
        token = self._skip()
        if token.kind is not Kind.RIGHT:
            raise self._unexpected(token, context)
        self._take()

    # Structure

    def _list(self, ends: tuple[str, ...]) -> tuple[list[Node], Token | None]:
        """Return nodes up to ``{{end}}`` or ``{{else}}`` and that keyword.

        Without ``ends`` the end of the text is where to stop.
        """
        found: list[Node] = []
        while True:
            token = self._take()
            if token.kind is Kind.TEXT:
                found.append(Text(token.at, token.text))
                continue
            if token.kind is Kind.END:
                if ends:
                    raise self._error("unexpected EOF")
                return found, None
            word = self._skip()
            if word.kind is not Kind.KEYWORD:
                pipe = self._pipe("command", Kind.RIGHT)
                found.append(Action(word.at, pipe))
                continue
            self._take()
            if word.text in ("end", "else"):
                return found, word
            node = self._statement(word, at_top=not ends)
            if node is not None:
                found.append(node)

    def _statement(self, word: Token, *, at_top: bool) -> Node | None:
        match word.text:
            case "if" | "with" | "range":
                return self._branch(word)
            case "break" | "continue":
                self._close(word.text)
                if not self._ranges:
                    raise self._error(f"{{{{{word.text}}}}} outside {{{{range}}}}")
                return Jump(word.at, word.text)
            case "template":
                at = self._skip().at
                name = self._name("template clause")
                pipe = None
                if self._skip().kind is Kind.RIGHT:
                    self._take()
                else:
                    pipe = self._pipe("template clause", Kind.RIGHT)
                return Call(at, name, pipe)
            case "block":
                at = self._skip().at
                name = self._name("block clause")
                pipe = self._pipe("block clause", Kind.RIGHT)
                self._define(name, word)
                return Call(at, name, pipe)
            case _:
                if not at_top or self._blocks:
                    raise self._error("unexpected {{define}}")
                name = self._name("define clause")
                self._close("define clause")
                self._define(name, word)
                return None

    def _name(self, context: str) -> str:
        token = self._skip()
        if token.kind not in (Kind.STRING, Kind.RAW):
            raise self._unexpected(token, context)
        self._take()
        return self._string(token)

    def _string(self, token: Token) -> str:
        text = unquoted(token.text)
        if text is None:
            raise self._error(f"invalid syntax in string {token.text}")
        return text

    def _define(self, name: str, word: Token) -> None:
        scope, ranges = self._scope, self._ranges
        self._scope, self._ranges = [Variable(0, "$", 0)], 0
        self._enter(word)
        body, end = self._list(("end",))
        if end is None or end.text != "end":
            raise self._error("unexpected {{else}} in define clause")
        self._close("end")
        self._blocks -= 1
        self._scope, self._ranges = scope, ranges
        # As in the reference, an empty definition does not replace another.
        if _is_empty(body):
            self._definitions.setdefault(name, body)
            return
        if name in self._filled:
            raise self._error(f'multiple definition of template "{name}"')
        self._filled.add(name)
        self._definitions[name] = body

    def _enter(self, word: Token) -> None:
        self._blocks += 1
        if self._blocks > BLOCKS_MAX:
            raise self._error(f"nested deeper than {BLOCKS_MAX} blocks")

    def _branch(self, word: Token, depth: int = 0) -> Branch:
        mark = len(self._scope)
        if not depth:
            self._enter(word)
        pipe = self._pipe(word.text, Kind.RIGHT)
        if word.text == "range":
            self._ranges += 1
            if self._ranges > RANGES_MAX:
                raise self._error(f"nested deeper than {RANGES_MAX} ranges")
        body, end = self._list(("end", "else"))
        if word.text == "range":
            self._ranges -= 1
        otherwise: list[Node] | None = None
        if end is not None and end.text == "else":
            otherwise = self._otherwise(word, end)
        else:
            self._close("end")
        if not depth:
            self._blocks -= 1
        del self._scope[mark:]
        return Branch(word.at, word.text, pipe, body, otherwise, chained=depth > 0)

    def _otherwise(self, word: Token, end: Token) -> list[Node]:
        token = self._skip()
        if token.kind is Kind.KEYWORD and token.text == word.text != "range":
            self._take()
            # ``else if`` closes both with its own end.
            return [self._chained(token)]
        self._close("else")
        otherwise, last = self._list(("end",))
        if last is None or last.text != "end":
            if last is not None and self._skip().text != "if":
                self._close("else")
            raise self._error("expected end; found {{else}}")
        self._close("end")
        return otherwise

    def _chained(self, word: Token) -> Branch:
        """Return an ``else if``; a long run of them is flat in Python."""
        self._chain += 1
        if self._chain > CHAIN_MAX:
            raise self._error(f"over {CHAIN_MAX} branches of one {word.text}")
        branch = self._branch(word, depth=1)
        self._chain -= 1
        return branch

    # Pipelines

    def _pipe(self, context: str, end: Kind) -> Pipe:
        first = self._skip()
        pipe = Pipe(first.at, [])
        names: list[Token] = []
        is_new = self._declarations(context, names)
        while True:
            token = self._skip()
            if token.kind is end:
                self._take()
                break
            if token.kind not in _OPERANDS:
                raise self._unexpected(token, context)
            pipe.commands.append(self._command())
        if not pipe.commands:
            raise self._error(f"missing value for {context}")
        for stage, command in enumerate(pipe.commands[1:], 2):
            if isinstance(command.args[0], Literal | Nil | Dot):
                raise self._error(f"non executable command in pipeline stage {stage}")
        pipe.declares = is_new
        for name in names:
            pipe.declared.append(self._new(name) if is_new else self._variable(name))
        return pipe

    def _declarations(self, context: str, names: list[Token]) -> bool:
        """Take ``$a, $b :=``; return whether the variables are new."""
        while True:
            start = self._next
            variable = self._skip()
            if variable.kind is not Kind.VARIABLE:
                return True
            self._take()
            after = self._skip()
            if after.kind in (Kind.DECLARE, Kind.ASSIGN):
                self._take()
                names.append(variable)
                return after.kind is Kind.DECLARE
            if after.kind is not Kind.COMMA:
                if names:
                    raise self._unexpected(after, context)
                self._next = start
                return True
            self._take()
            names.append(variable)
            if context != "range" or len(names) > 1:
                raise self._error(f"too many declarations in {context}")
            if self._skip().kind is not Kind.VARIABLE:
                raise self._error("range can only initialize variables")

    def _new(self, token: Token) -> Variable:
        self._slots += 1
        variable = Variable(token.at, token.text, self._slots)
        self._scope.append(variable)
        return variable

    def _variable(self, token: Token) -> Variable:
        for known in reversed(self._scope):
            if known.name == token.text:
                return Variable(token.at, known.name, known.slot)
        raise self._error(f'undefined variable "{token.text}"')

    def _command(self) -> Command:
        first = self._skip()
        args: list[Node] = []
        while True:
            self._skip()
            operand = self._operand()
            if operand is not None:
                args.append(operand)
            token = self._peek()
            if token.kind is Kind.SPACE:
                continue
            if token.kind in (Kind.RIGHT, Kind.CLOSE):
                break
            if token.kind is not Kind.PIPE:
                raise self._unexpected(token, "operand")
            # What follows may be the end, as Go has it.
            self._take()
            break
        if not args:
            raise self._error("empty command")
        end = self._peek().at
        return Command(first.at, args, self._text[first.at : end].strip()[:200])

    def _not_defined(self, name: str) -> str:
        import difflib

        close = difflib.get_close_matches(name, self._functions, 1, 0.7)
        hint = f" (did you mean {close[0]}?)" if close else ""
        return f'function "{name}" not defined{hint}'

    def _operand(self) -> Node | None:
        node = self._term()
        if node is None or self._peek().kind is not Kind.FIELD:
            return node
        if isinstance(node, Literal | Nil | Dot):
            raise self._error("unexpected . after term")
        at, fields = self._peek().at, list[str]()
        while self._peek().kind is Kind.FIELD:
            fields.append(self._take().text[1:])
        if isinstance(node, Chain) and isinstance(node.base, Dot):
            node.fields += fields
            return node
        return Chain(at, node, fields)

    def _term(self) -> Node | None:
        token = self._peek()
        if token.kind not in _OPERANDS:
            return None
        self._take()
        at = token.at
        match token.kind:
            case Kind.STRING | Kind.RAW:
                return Literal(at, token.text, self._string(token))
            case Kind.BOOL:
                return Literal(at, token.text, token.text == "true")
            case Kind.NUMBER | Kind.CHAR:
                is_char = token.kind is Kind.CHAR
                value = (char_value if is_char else number_value)(token.text)
                if isinstance(value, str):
                    raise self._error(value)
                return Literal(at, token.text, value)
            case Kind.NIL:
                return Nil(at)
            case Kind.DOT:
                return Dot(at)
            case Kind.FIELD:
                return Chain(at, Dot(at), [token.text[1:]])
            case Kind.VARIABLE:
                return self._variable(token)
            case Kind.WORD:
                if token.text not in self._functions:
                    raise self._error(self._not_defined(token.text))
                return Function(at, token.text)
            case _:
                self._parens += 1
                if self._parens > PARENS_MAX:
                    raise self._error(f"nested deeper than {PARENS_MAX} parens")
                pipe = self._pipe("parenthesized pipeline", Kind.CLOSE)
                self._parens -= 1
                return pipe


def _is_empty(body: list[Node]) -> bool:
    return all(isinstance(node, Text) and not node.text.strip() for node in body)
