"""The Jinja2 environment of templates: its sandbox, quick about our own records.

A template of thousands of lines reads a field or two a line, so reading one is
compiled to an attribute of the record with what the sandbox does as the other
case. Fields are only data: there is nothing to guard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from jinja2 import StrictUndefined, Undefined, UndefinedError
from jinja2.bccache import Bucket, BytecodeCache
from jinja2.compiler import CodeGenerator, Frame
from jinja2.nodes import Call, Expr, For, Getattr, Name, Node, Output, TemplateData
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment
from msgspec import Struct

from pyconsul_client.records import HealthCheck
from pyconsul_template.kept_loops import KeptTexts, lookup
from pyconsul_template.records import (
    Instance,
    NodeDetail,
    NodeRecord,
    NodeService,
    Pair,
    ServiceName,
    spellings,
)

RECORDS: tuple[type[Struct], ...] = (
    *(Instance, ServiceName, Pair, NodeRecord, NodeService, NodeDetail),
    HealthCheck,
)
COMPILED_MAX = 64
"""Compiled templates kept, by their text."""


def _fields() -> dict[str, tuple[str, frozenset[type[Struct]]]]:
    """Return, by spelling, a field and the records that have it under that name."""
    found: dict[str, tuple[str, set[type[Struct]]]] = {}
    for kind in RECORDS:
        for name, field in spellings(kind).items():
            entry = found.setdefault(name, (field, set()))
            if entry[0] == field:
                entry[1].add(kind)
    return {name: (field, frozenset(kinds)) for name, (field, kinds) in found.items()}


_FIELDS = _fields()
_SPELLINGS = {kind: spellings(kind) for kind in RECORDS}


class Missing(StrictUndefined):
    """A name or key that is not there."""

    __slots__ = ()

    def softened(self) -> Undefined:
        """Return the empty value for a missing key; itself for a denied access."""
        if self._undefined_exception is not UndefinedError:
            return self
        return Undefined(
            self._undefined_hint, self._undefined_obj, self._undefined_name
        )


class _Generator(CodeGenerator):
    """Compiles attributes that records have to reads of the field."""

    _loops = 0

    def visit_For(self, node: For, frame: Frame) -> None:
        called = lookup(node)
        if called is None or frame.buffer is not None or frame.require_output_check:
            super().visit_For(node, frame)
            return
        self._loops += 1
        self.writeline("_l = ", node)
        self.visit(called, frame)
        self.writeline(f"_k = ({f'{self.name}:{self._loops}'!r}, ")
        for argument in called.args:
            self.visit(argument, frame)
            self.write(", ")
        self.write(")")
        self.writeline("_t = environment.kept.get(_k)")
        self.writeline("if _t is not None and _t[0] is _l:")
        self.indent()
        self.writeline("yield _t[1]")
        self.outdent()
        self.writeline("else:")
        self.indent()
        inner = frame.inner()
        inner.loop_frame = True
        inner.symbols.analyze_node(node, for_branch="body")
        inner.buffer = "_w"
        self.writeline("_w = []")
        self.writeline("for ", node)
        self.visit(node.target, inner)
        self.write(" in _l:")
        self.indent()
        self.enter_frame(inner)
        self.blockvisit(node.body, inner)
        self.outdent()
        self.leave_frame(inner)
        self.writeline("yield environment.kept.keep(_k, _l, _w)")
        self.outdent()

    def visit_Getattr(self, node: Getattr, frame: Frame) -> None:
        known = _FIELDS.get(node.attr)
        if known is None or self.environment.is_async:
            super().visit_Getattr(node, frame)
            return
        # One name serves nested reads: the inner is done when the outer begins.
        self.write(f"(_r.{known[0]} if type(_r := ")
        self.visit(node.node, frame)
        self.write(f") in environment.kinds_of_{node.attr} else ")
        self.write(f"environment.getattr(_r, {node.attr!r}))")

    def visit_Call(
        self, node: Call, frame: Frame, forward_caller: bool = False
    ) -> None:
        # Our own functions are called as they are. The arguments are written twice,
        # so calls in them, which would be written four times, go the usual way.
        is_plain = (
            isinstance(node.node, Name)
            and not (forward_caller or node.kwargs or node.dyn_args or node.dyn_kwargs)
            and not any(_has_call(argument) for argument in node.args)
        )
        if not is_plain:
            super().visit_Call(node, frame, forward_caller=forward_caller)
            return
        self.write("(_f(")
        for argument in node.args:
            self.visit(argument, frame)
            self.write(", ")
        self.write(") if id(_f := ")
        self.visit(node.node, frame)
        self.write(") in environment.own else environment.call(context, _f")
        self.signature(node, frame)
        self.write("))")

    def visit_Output(self, node: Output, frame: Frame) -> None:
        # A piece of text for all of them, where Jinja2 gives one for each.
        if frame.buffer is not None or frame.require_output_check:
            super().visit_Output(node, frame)
            return
        data: list[str] = []
        children: list[Expr] = []
        for child in node.nodes:
            if isinstance(child, TemplateData):
                data.append(child.data.replace("%", "%%"))
            else:
                data.append("%s")
                children.append(child)
        text = "".join(data)
        if not children:
            self.writeline(f"yield {text.replace('%%', '%')!r}", node)
            return
        self.writeline(f"yield {text!r} % (", node)
        self.indent()
        for child in children:
            # On a line of its own, by which an error finds the template's line.
            self.newline(child)
            self.visit(child, frame)
            self.write(",")
        self.outdent()
        self.writeline(")")


def _has_call(node: Node) -> bool:
    return isinstance(node, Call) or node.find(Call) is not None


class _Compiled(BytecodeCache):
    """Compiled templates in memory: each is compiled to be checked, and to be run."""

    def __init__(self, delimiters: tuple[str, str]) -> None:
        self._delimiters = delimiters

    def load_bytecode(self, bucket: Bucket) -> None:
        """Give the code of the same text."""
        bucket.code = _compiled.get((*self._delimiters, bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep the code; the oldest makes room."""
        while len(_compiled) >= COMPILED_MAX:
            del _compiled[next(iter(_compiled))]
        assert bucket.code is not None
        _compiled[*self._delimiters, bucket.key, bucket.checksum] = bucket.code


_compiled: dict[tuple[str, str, str, str], Any] = {}


class TemplateEnvironment(SandboxedEnvironment):
    """Jinja2's sandbox, lenient about missing keys when told so."""

    code_generator_class = _Generator
    is_lenient = True

    def __init__(self, left: str, right: str, **options: Any) -> None:
        """``left`` and ``right`` delimit expressions; the rest is Jinja2's."""
        super().__init__(
            variable_start_string=left,
            variable_end_string=right,
            undefined=Missing,
            bytecode_cache=_Compiled((left, right)),
            **options,
        )
        self.kept = KeptTexts()
        """What loops over lookups said."""
        self.own: frozenset[int] = frozenset()
        """Functions to call as they are, by identity."""

    def trust(self, functions: Iterable[Callable[..., Any]]) -> None:
        """Call these without a look at what they are; they are kept in ``globals``."""
        self.own = frozenset(map(id, functions))

    def call(
        __self,  # pyright: ignore[reportSelfClsParameterName]
        __context: Context,
        __obj: Any,
        *args: Any,
        _loop_vars: Any = None,
        _block_vars: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Call an object; the two names are for functions that take the context."""
        if id(__obj) in __self.own:
            return __obj(*args, **kwargs)
        if _loop_vars is not None:
            kwargs["_loop_vars"] = _loop_vars
        if _block_vars is not None:
            kwargs["_block_vars"] = _block_vars
        return super().call(__context, __obj, *args, **kwargs)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return an attribute or item, or what stands for a missing one."""
        kind: type[Any] = type(obj)  # pyright: ignore[reportUnknownVariableType]
        fields = _SPELLINGS.get(kind)
        if fields is None and isinstance(obj, Struct):
            fields = _SPELLINGS[kind] = spellings(kind)
        if fields is not None:
            field = fields.get(attribute)
            if field is not None:
                return getattr(obj, field)
        value = super().getattr(obj, attribute)
        return self._softened(value) if type(value) is Missing else value

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Return an item or attribute, or what stands for a missing one."""
        if isinstance(obj, Struct) and isinstance(argument, str):
            return self.getattr(obj, argument)
        value = super().getitem(obj, argument)
        return self._softened(value) if type(value) is Missing else value

    def _softened(self, missing: Missing) -> Undefined:
        return missing.softened() if self.is_lenient else missing


for _name, (_, _kinds) in _FIELDS.items():
    setattr(TemplateEnvironment, f"kinds_of_{_name}", _kinds)
