"""Python source of a Go template's tree, one function a definition.

Nothing of the template's text gets into the source: constants, names of fields
and functions are objects in its globals, all other names are numbered here. A
line of the source belongs to one operation, so that a traceback tells where in
the template it is (``Program.places``).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping
from types import CodeType, TracebackType
from typing import Any, cast

from msgspec import Struct

from pyconsul_template.ctmpl.calls import Function
from pyconsul_template.ctmpl.kept import asked, has_loop, keep
from pyconsul_template.ctmpl.lexer import line_starts
from pyconsul_template.ctmpl.nodes import (
    Action,
    Branch,
    Call,
    Chain,
    Command,
    Dot,
    Jump,
    Literal,
    Nil,
    Node,
    Pipe,
    Text,
    Tree,
    Variable,
)
from pyconsul_template.ctmpl.nodes import (
    Function as FunctionNode,
)
from pyconsul_template.ctmpl.values import Fields, eq, ge, gt, le, lt, ne, shown

FILENAME = "<go template>"
GROUP_MAX = 64
"""Texts and printed values added to the output by one statement."""
_MARK = re.compile(r"#@(\d+)$")
_COMPARISONS: dict[str, Callable[..., Any]] = {
    **{"ne": ne, "lt": lt, "le": le, "gt": gt, "ge": ge},
}
INLINE = frozenset(("and", "or", "not", "eq", *_COMPARISONS))
"""Functions that are compiled to operators or direct calls."""

NOTHING: Mapping[int, str] = {}

Body = Callable[[Any, Callable[[str], None], Callable[[Any], None]], None]


class Place(Struct, frozen=True):
    """Where in a template an operation is."""

    line: int
    definition: str
    text: str


class Program(Struct, frozen=True):
    """A compiled template; ``code`` defines the ``bodies``' functions by name."""

    code: CodeType
    constants: Mapping[str, Any]
    calls: Mapping[str, tuple[str, int]]
    """Functions by their name in the code, each with a number of arguments."""
    bodies: Mapping[str, str]
    """Python name of each definition; ``""`` is the template itself."""
    places: Mapping[int, Place]
    loops: tuple[str, ...]
    """Names of the dictionaries in which loops keep their texts."""

    def place(self, traceback: TracebackType | None) -> Place | None:
        """Return the innermost operation of the template in a traceback."""
        found: Place | None = None
        while traceback is not None:
            if traceback.tb_frame.f_code.co_filename == FILENAME:
                found = self.places.get(traceback.tb_lineno, found)
            traceback = traceback.tb_next
        return found


def compile_tree(
    tree: Tree, functions: Mapping[str, Function], *, strict: bool
) -> Program:
    """Return the program of a tree; ``strict`` makes a missing map key an error.

    Of the functions only their parameters count: a program serves any template
    of the same text.
    """
    return _Compiler(tree, functions, strict=strict).program()


class _Compiler:
    def __init__(
        self, tree: Tree, functions: Mapping[str, Function], *, strict: bool
    ) -> None:
        self._tree = tree
        self._functions = functions
        self._strict = strict
        self._lines: list[str] = []
        self._depth = 0
        self._constants: dict[str, Any] = {"P": shown, "E": eq, "K": keep} | {
            name.upper(): function for name, function in _COMPARISONS.items()
        }
        self._calls: dict[str, tuple[str, int]] = {}
        self._names: dict[tuple[str, Any], str] = {}
        self._marks: list[tuple[int, str, str]] = []
        self._definition = ""
        self._count = 0
        self._extend = "x"
        self._loops: list[str] = []

    def program(self) -> Program:
        bodies: dict[str, str] = {}
        all_bodies = {"": self._tree.body} | self._tree.definitions
        for number, (name, body) in enumerate(all_bodies.items()):
            bodies[name] = f"t{number}"
            self._definition = name
            self._emit(f"def t{number}(d0, o, x):")
            self._depth = 1
            self._block(body, "d0")
            self._depth = 0
        places: dict[int, Place] = {}
        starts = line_starts(self._tree.text)
        for number, line in enumerate(self._lines, 1):
            mark = _MARK.search(line)
            if mark is not None:
                at, name, text = self._marks[int(mark[1])]
                place = Place(bisect_right(starts, at), name, text)
                places[number + 1] = place
        code = compile("\n".join(self._lines) + "\n", FILENAME, "exec")
        return Program(
            code, self._constants, self._calls, bodies, places, tuple(self._loops)
        )

    # Source text

    def _emit(self, text: str) -> None:
        pad = " " * self._depth
        self._lines.extend(pad + line for line in text.split("\n"))

    def _mark(self, at: int, text: str = "") -> str:
        self._marks.append((at, self._definition, text))
        return f"#@{len(self._marks) - 1}"

    def _constant(self, value: Any) -> str:
        key = value.__class__.__name__, value
        # 0.0 equals -0.0 and they print differently.
        if isinstance(value, float):
            key = "float", repr(value)
        name = self._names.get(key)
        if name is None:
            name = self._names[key] = f"k{len(self._names)}"
            self._constants[name] = value
        return name

    def _getter(self, field: str, *, is_first: bool) -> str:
        key = f"field{is_first}", field
        name = self._names.get(key)
        if name is None:
            name = self._names[key] = f"g{len(self._names)}"
            self._constants[name] = Fields(
                field, strict=self._strict, is_first=is_first
            )
        return name

    def _function(self, name: str, count: int) -> str:
        key = f"function{count}", name
        known = self._names.get(key)
        if known is None:
            known = self._names[key] = f"f{len(self._names)}"
            self._calls[known] = name, count
        return known

    def _new(self, letter: str) -> str:
        self._count += 1
        return f"{letter}{self._count}"

    # Statements

    def _block(self, nodes: list[Node], dot: str) -> None:
        """Emit the statements of a list; ``dot`` is the name of its dot."""
        group: list[str] = []
        start = len(self._lines)

        def flush() -> None:
            if group:
                inner = "".join(group)
                self._emit(f"{self._extend}((\n{inner}))")
                group.clear()

        for node in nodes:
            if isinstance(node, Text):
                group.append(f"{self._constant(node.text)},\n")
            elif isinstance(node, Action) and not node.pipe.declared:
                group.append(self._printed(node.pipe, dot))
            else:
                flush()
                self._statement(node, dot)
            if len(group) >= GROUP_MAX:
                flush()
        flush()
        if len(self._lines) == start:
            self._emit("pass")

    def _printed(self, pipe: Pipe, dot: str) -> str:
        constant = self._folded(pipe)
        if constant is not None:
            return f"{self._constant(constant)},\n"
        mark = self._mark(pipe.at, pipe.commands[0].text)
        value = self._pipe(pipe, dot)
        # Ports and the like: a number needs no look at what it is.
        number = 'f"{_}" if _.__class__ is int else P(_)'
        return f"{mark}\n(_ if (_ := {value}).__class__ is str else {number}),\n"

    def _folded(self, pipe: Pipe) -> str | None:
        if len(pipe.commands) == 1 and len(pipe.commands[0].args) == 1:
            only = pipe.commands[0].args[0]
            if isinstance(only, Literal):
                return shown(only.value)
        return None

    def _statement(self, node: Node, dot: str) -> None:
        if isinstance(node, Action):
            self._emit(f"{self._mark(node.at, node.pipe.commands[0].text)}")
            self._emit(self._pipe(node.pipe, dot))
        elif isinstance(node, Branch):
            if node.kind == "range":
                self._range(node, dot)
            else:
                self._condition(node, dot, "if")
        elif isinstance(node, Jump):
            self._emit(node.kind)
        elif isinstance(node, Call):
            text = f'{{{{template "{node.name}"}}}}'
            self._emit(self._mark(node.at, text))
            value = self._pipe(node.pipe, dot) if node.pipe else "None"
            self._emit(f"T({self._constant(node.name)}, {value}, o, x)")

    def _condition(self, node: Branch, dot: str, word: str) -> None:
        value = self._pipe(node.pipe, dot)
        inner = dot
        if node.kind == "with":
            inner = self._new("d")
            value = f"({inner} := {value})"
        # The mark precedes the value, not the keyword: elif follows its block.
        mark = self._mark(node.at, node.pipe.commands[0].text)
        self._emit(f"{word} ({mark}\n{value}):")
        self._indented(node.body, inner)
        match node.otherwise:
            case None:
                pass
            case [Branch(kind="if" | "with") as chained] if chained.chained:
                self._condition(chained, dot, "elif")
            case otherwise:
                self._emit("else:")
                self._indented(otherwise, dot)

    def _range(self, node: Branch, dot: str) -> None:
        lookup = asked(node)
        if lookup is not None:
            self._kept_range(node, lookup, dot)
            return
        inner, items = self._new("d"), self._new("r")
        declared = [f"v{variable.slot}" for variable in node.pipe.declared]
        self._emit(self._mark(node.at, node.pipe.commands[0].text))
        # The variables have all of it until the first turn, and keep it without one.
        value = self._pipe(node.pipe, dot)
        source = "R2" if len(declared) == 2 else "R"
        self._emit(f"{items} = {source}({value})")
        target = f"{declared[0]}, {inner}" if len(declared) == 2 else inner
        self._emit(f"for {target} in {items}:")
        if declared:
            self._depth += 1
            self._emit(f"{declared[-1]} = {inner}")
            self._depth -= 1
        self._indented(node.body, inner)
        if node.otherwise is not None:
            self._emit(f"if not {items}:")
            self._indented(node.otherwise, dot)

    def _kept_range(self, node: Branch, lookup: Command, dot: str) -> None:
        """Emit a loop whose text is kept as long as its list is the same."""
        kept, known = self._new("C"), self._new("m")
        items, inner = self._new("r"), self._new("d")
        parts, extend, turns = self._new("w"), self._new("x"), self._new("n")
        self._loops.append(kept)
        mark = self._mark(lookup.at, lookup.text)
        given: dict[int, str] = {}
        function, *args = lookup.args
        assert isinstance(function, FunctionNode)
        for number, argument in enumerate(args):
            if not isinstance(argument, Literal):
                given[number] = name = self._new("b")
                self._emit(f"{name} = {self._value(argument, dot, mark)}")
        self._emit(self._mark(node.at, lookup.text))
        value = self._call(function.name, args, None, dot, mark, given)
        self._emit(f"{items} = R({value})")
        for variable in node.pipe.declared:
            self._emit(f"v{variable.slot} = {items}")
        words = [
            given.get(n, "") or self._constant(cast("Literal", argument).value)
            for n, argument in enumerate(args)
        ]
        key = words[0] if len(words) == 1 else f"({''.join(f'{w}, ' for w in words)})"
        self._emit(f"{known} = {kept}.get({key})")
        has_turns = has_loop(node.body)
        self._emit(f"if {known} is not None and {known}[0] is {items}:")
        self._emit(f" o({known}[1])")
        if has_turns:
            self._emit(f" S({known}[2])")
        self._emit("else:")
        self._depth += 1
        count = "N()" if has_turns else "0"
        self._emit(f"{turns} = {count}")
        self._emit(f"{parts} = []")
        self._emit(f"{extend} = {parts}.extend")
        self._emit(f"for {inner} in {items}:")
        outside, self._extend = self._extend, extend
        self._depth += 1
        for variable in node.pipe.declared:
            self._emit(f"v{variable.slot} = {inner}")
        self._block(node.body, inner)
        self._depth -= 1
        self._extend = outside
        self._emit(f"o(K({kept}, {key}, {items}, {parts}, {count} - {turns}))")
        self._depth -= 1
        if node.otherwise is not None:
            self._emit(f"if not {items}:")
            self._indented(node.otherwise, dot)

    def _indented(self, nodes: list[Node], dot: str) -> None:
        self._depth += 1
        self._block(nodes, dot)
        self._depth -= 1

    # Expressions

    def _pipe(self, pipe: Pipe, dot: str) -> str:
        value = self._commands(pipe, dot)
        for variable in pipe.declared:
            value = f"(v{variable.slot} := {value})"
        return value

    def _commands(self, pipe: Pipe, dot: str) -> str:
        value: str | None = None
        for command in pipe.commands:
            value = self._command(command, value, dot)
        return value or "None"

    def _command(self, command: Command, final: str | None, dot: str) -> str:
        first, *rest = command.args
        mark = self._mark(command.at, command.text)
        if isinstance(first, FunctionNode):
            return self._call(first.name, rest, final, dot, mark)
        if not rest and final is None:
            if isinstance(first, Nil):
                return self._failure("nil is not a command", mark)
            return self._value(first, dot, mark)
        if isinstance(first, Chain):
            *fields, method = first.fields
            base = first.base
            target = self._fields(base, fields, dot, mark)
            args = [self._value(arg, dot, mark) for arg in rest]
            args += [final] if final is not None else []
            name, holder = self._constant(method), self._new("t")
            called = f"M({holder}, {', '.join([name, *args])})"
            if not fields and not self._strict:
                # Methods of no value at all are no value.
                called = f"None if {holder} is None else {called}"
            return f"({mark}\n({holder} := {target}, {called})[1])"
        return self._failure("can't give argument to non-function", mark)

    def _failure(self, text: str, mark: str) -> str:
        return f"({mark}\nX({self._constant(text)}))"

    def _value(self, node: Node, dot: str, mark: str) -> str:
        """Return the expression of an operand."""
        match node:
            case Literal():
                return self._constant(node.value)
            case Nil():
                return "None"
            case Dot():
                return dot
            case Variable():
                return f"v{node.slot}" if node.slot else "d0"
            case FunctionNode():
                own = self._mark(node.at, node.name)
                return self._call(node.name, [], None, dot, own)
            case Chain():
                return self._fields(node.base, node.fields, dot, mark)
            case Pipe():
                return self._pipe(node, dot)
            case _:
                raise AssertionError(type(node))

    def _fields(self, base: Node, fields: list[str], dot: str, mark: str) -> str:
        value = self._value(base, dot, mark)
        is_first = True
        guard = ""
        for number, field in enumerate(fields):
            if value.isidentifier():
                name = holder = value
            else:
                name = self._new("t")
                holder = f"({name} := {value})"
            getter = self._getter(field, is_first=is_first)
            if number == 0 and len(fields) > 1 and not self._strict:
                # Fields of no value at all are no value, however long the chain.
                guard = f"None if {holder} is None else "
                holder = name
            value = f"({mark}\n{getter}[{holder}.__class__]({name}))"
            is_first = False
        return f"({guard}{value})" if guard else value

    def _call(
        self,
        name: str,
        nodes: list[Node],
        final: str | None,
        dot: str,
        mark: str,
        given: Mapping[int, str] = NOTHING,
    ) -> str:
        """Return a call; ``given`` has the names of arguments already there."""
        function = self._functions[name]
        count = len(nodes) + (final is not None)
        problem = function.wrong_count(name, count)
        if problem:
            return self._failure(problem, mark)
        args: list[str] = []
        for number, node in enumerate(nodes):
            if number in given:
                args.append(given[number])
            elif isinstance(node, Literal):
                value = function.constant(number, node.value)
                args.append(self._constant(value))
            else:
                args.append(self._value(node, dot, mark))
        if final is not None:
            args.append(final)
        if name in ("and", "or"):
            return f"({f' {name} '.join(args)})"
        if name == "not":
            return f"(not {args[0]})"
        python = "E" if name == "eq" else name.upper()
        if name not in INLINE:
            python = self._function(name, count)
        return f"({mark}\n{python}({', '.join(args)}))"
