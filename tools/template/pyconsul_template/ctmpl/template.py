"""A Go template bound to a source of data, errors as ``file:line: text``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyconsul_template.ctmpl.calls import Function, bound
from pyconsul_template.ctmpl.compiler import Program, compile_tree
from pyconsul_template.ctmpl.errors import GoExecError, GoSyntaxError
from pyconsul_template.ctmpl.functions import Environment, function_table
from pyconsul_template.ctmpl.lookups import GoLookups
from pyconsul_template.ctmpl.methods import call_method
from pyconsul_template.ctmpl.parser import parse
from pyconsul_template.ctmpl.values import elements, pairs
from pyconsul_template.engine import Outcome
from pyconsul_template.render import (
    NO_VARIABLES,
    OUTPUT_BYTES_MAX,
    Rendered,
    TemplateError,
    TemplateSource,
)
from pyconsul_template.source import Entry, Source

CALLS_MAX = 100
"""Templates within each other by ``template`` and ``executeTemplate``."""
TURNS_MAX = 10_000_000
"""Turns of all loops, and template calls, of one render."""
PROGRAMS_MAX = 64
"""Compiled templates kept, by their text."""
_programs: dict[tuple[str, str, str, bool], Program] = {}


class GoTemplate:
    """A compiled Go template."""

    def __init__(self, source: TemplateSource, data: Source) -> None:
        """Compile; raises ``TemplateError`` for a missing file or wrong syntax."""
        self.source = source
        self._label = str(source.path) if source.path else source.name or "contents"
        self._lookups = GoLookups(data, source.file_root)
        self._turns = 0
        self._calls = 0
        self._environment = Environment(
            lookups=self._lookups,
            denied=source.denied,
            file_root=source.file_root,
            execute=self._execute,
        )
        functions = function_table(self._environment)
        self._program = self._compiled(functions)
        self._bodies = self._loaded(self._program, functions)

    def _text(self) -> str:
        path = self.source.path
        if path is None:
            return self.source.contents
        try:
            return path.read_bytes().decode("utf-8", "surrogateescape")
        except OSError as error:
            raise TemplateError(str(path), None, error.strerror or "?") from error

    def _compiled(self, functions: Mapping[str, Function]) -> Program:
        text, source = self._text(), self.source
        left = source.left_delimiter or "{{"
        right = source.right_delimiter or "}}"
        strict = source.error_on_missing_key
        # A template is compiled once to be checked and again to be run.
        key = text, left, right, strict
        known = _programs.get(key)
        if known is not None:
            return known
        try:
            tree = parse(text, functions, left, right)
        except GoSyntaxError as error:
            raise TemplateError(self._label, error.line, error.text) from error
        try:
            program = compile_tree(tree, functions, strict=strict)
        except (RecursionError, SyntaxError, MemoryError) as error:
            raise TemplateError(self._label, 1, f"too complex: {error}") from error
        while len(_programs) >= PROGRAMS_MAX:
            del _programs[next(iter(_programs))]
        _programs[key] = program
        return program

    def _loaded(
        self, program: Program, functions: Mapping[str, Function]
    ) -> dict[str, Callable[..., None]]:
        calls = program.calls.items()
        names: dict[str, Any] = {
            **program.constants,
            **{own: bound(functions[name], count) for own, (name, count) in calls},
            "T": self._call,
            "M": call_method,
            "X": _fail,
            **{own: {} for own in program.loops},
            "R": self._elements,
            "S": self._spend,
            "N": self._spent,
            "R2": self._pairs,
            "str": str,
            "int": int,
            "__builtins__": {},
        }
        # The code was made from the tree alone: no text of the template is in it.
        exec(program.code, names)
        return {name: names[python] for name, python in program.bodies.items()}

    def render(self, variables: Mapping[str, Any] = NO_VARIABLES) -> Rendered:
        """Render with the data there is now; raises ``TemplateError``.

        The dot is the ``item`` of ``variables``, nil when there is none.

        An error while data is missing is no error: it comes from the missing data.
        """
        lookups = self._lookups
        lookups.begin()
        self._turns = self._calls = 0
        self._environment.begin()
        found: list[str] = []
        try:
            self._bodies[""](variables.get("item"), found.append, found.extend)
        except Exception as error:
            # Whatever an operation raises is the template's error.
            if not lookups.is_held():
                raise self._located(error) from error
            found.clear()
        content = "".join(found).encode("utf-8", "surrogateescape")
        if len(content) > OUTPUT_BYTES_MAX:
            raise TemplateError(self._label, None, f"over {OUTPUT_BYTES_MAX} bytes")
        if not (lookups.is_held() or self.source.is_dry):
            try:
                self._environment.commit()
            except (GoExecError, OSError) as error:
                raise TemplateError(self._label, None, f"{error}") from error
        return Rendered(content, lookups.outcome())

    def failed(self) -> Outcome[Entry]:
        """Return the outcome of the render that has just raised."""
        return self._lookups.outcome(failed=True)

    def files(self) -> frozenset[Path]:
        """Return the files the last render read by ``file``."""
        return self._lookups.files

    def limits(self) -> Mapping[Entry, float]:
        """Return how long something may be absent: Go's calls have no word for it."""
        return self._lookups.limits

    def parts(self) -> frozenset[Path]:
        """Return the files the template is made of: its own."""
        own = self.source.path
        return frozenset() if own is None else frozenset((own,))

    def _located(self, error: Exception) -> TemplateError:
        place = self._program.place(error.__traceback__)
        text = str(error) or type(error).__name__
        if isinstance(error, UnboundLocalError):
            text = "undefined variable"
        elif isinstance(error, RecursionError):
            text = "nested too deeply"
        elif not isinstance(error, GoExecError):
            text = f"{type(error).__name__}: {text}"
        if place is None:
            return TemplateError(self._label, None, text)
        at = f" at <{place.text}>" if place.text else ""
        text = f'executing "{place.definition}"{at}: {text}'
        return TemplateError(self._label, place.line, text)

    # What the compiled code calls

    def _call(
        self,
        name: str,
        value: Any,
        append: Callable[[str], None],
        extend: Callable[[Sequence[str]], None],
    ) -> None:
        body = self._bodies.get(name)
        if body is None or not name:
            raise GoExecError(f'template "{name}" not defined')
        if self._calls >= CALLS_MAX:
            raise GoExecError(f"exceeded maximum template depth ({CALLS_MAX})")
        self._spend(1)
        self._calls += 1
        try:
            body(value, append, extend)
        finally:
            self._calls -= 1

    def _execute(self, name: str, value: Any) -> str:
        """Return the text of a definition, for ``executeTemplate``."""
        found: list[str] = []
        self._call(name, value, found.append, found.extend)
        return "".join(found)

    def _spend(self, turns: int) -> None:
        self._turns += turns
        if self._turns > TURNS_MAX:
            raise GoExecError(f"over {TURNS_MAX} turns of loops")

    def _spent(self) -> int:
        return self._turns

    def _elements(self, value: Any) -> Sequence[Any]:
        found: Sequence[Any] = value if value.__class__ is list else elements(value)
        self._turns += len(found)
        if self._turns > TURNS_MAX:
            self._spend(0)
        return found

    def _pairs(self, value: Any) -> Sequence[tuple[Any, Any]]:
        found = pairs(value)
        self._spend(len(found))
        return found


def _fail(text: str) -> Any:
    raise GoExecError(text)
