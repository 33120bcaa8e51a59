"""``for_each``: one template, a file for each item of an expression.

The files' names come from the data, so each has to lie in the fixed folder of
the pattern. Which files were made is kept in a small file there, so that one
whose item vanished while nobody was running is removed as well.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, cast

from jinja2 import Undefined
from msgspec import Struct
from msgspec.structs import replace

from pyconsul_template.engine import Outcome
from pyconsul_template.output import OutputError, Target, commit, stage
from pyconsul_template.pending import PENDING
from pyconsul_template.records import Record
from pyconsul_template.render import (
    NO_VARIABLES,
    Rendered,
    Template,
    TemplateError,
    TemplateSource,
    fixed_folder,
)
from pyconsul_template.source import Entry, Source

if TYPE_CHECKING:
    from pyconsul_template.syntax import TemplateLike

ITEMS_MAX = 10_000
RECORD_BYTES_MAX = 16 * 1024 * 1024


class Item(Record, frozen=True, kw_only=True):
    """An entry of a mapping; it prints as its key."""

    key: Any
    value: Any

    def __str__(self) -> str:
        return str(self.key)


class Made(Struct, frozen=True):
    """A render of all files; those that miss nothing are there."""

    files: dict[Path, bytes]
    outcome: Outcome[Entry]
    names: frozenset[Path] | None
    """The files of all items, ready or not; ``None`` while that is not known."""


class _Names(Template):
    """The items, and the name of each one's file."""

    def __init__(self, source: TemplateSource, data: Source) -> None:
        plain = replace(
            source,
            path=None,
            contents=source.pattern,
            name=f"{source.path or source.name}: destination",
            left_delimiter="{{",
            right_delimiter="}}",
        )
        super().__init__(plain, data)
        try:
            self._expression = self._environment.compile_expression(
                source.for_each, undefined_to_none=False
            )
        except Exception as error:
            raise self._located(error) from error
        self.folder = fixed_folder(source.pattern)

    def outcome(self) -> Outcome[Entry]:
        """Return what the items and their names used."""
        return self._lookups.outcome()

    def items(self) -> list[Any] | None:
        """Return the items; ``None`` while their data is not there."""
        lookups = self._lookups
        lookups.begin()
        try:
            found: Any = self._expression()
            if isinstance(found, Mapping):
                pairs = cast("Mapping[Any, Any]", found).items()
                found = [Item(key=key, value=value) for key, value in pairs]
            # An undefined value would be a list without an item.
            is_text = isinstance(found, str | bytes | Undefined)
            is_list = not is_text and isinstance(found, Iterable)
            if not is_list and found is not PENDING:
                raise TypeError(f"for_each: {str(cast('Any', found))!r:.80} is no list")
            found = None if found is PENDING else list(cast("Iterable[Any]", found))
        except Exception as error:
            if not lookups.is_held():
                raise self._located(error) from error
            found = None
        if lookups.is_held():
            return None
        if found is not None and len(found) > ITEMS_MAX:
            raise TemplateError(self._label, None, f"for_each: over {ITEMS_MAX} items")
        return found

    def path_of(self, item: Any) -> Path | None:
        """Return the item's file, in the fixed folder; ``None`` while held."""
        try:
            text = self._template.render(item=item)
        except Exception as error:
            if not self._lookups.is_held():
                raise self._located(error) from error
            return None
        parts = PurePosixPath(text).parts
        path = Path(text).absolute()
        is_plain = text.isprintable() and ".." not in parts and not text.endswith("/")
        if not is_plain or path.parent == path or self.folder not in path.parents:
            reason = f"{text!r:.200} is no file below {self.folder}"
            raise TemplateError(self._label, None, reason)
        return path


class EachTemplate:
    """A template that makes a file for each item; see the module."""

    def __init__(self, source: TemplateSource, data: Source, body: TemplateLike):
        """``body`` is the compiled text of the files; raises ``TemplateError``."""
        self.source = source
        self.body = body
        self._names = _Names(source, data)
        self._outcome: Outcome[Entry] = self._names.failed()
        self._files: frozenset[Path] = frozenset()
        self._limits: dict[Entry, float] = {}

    def make(self) -> Made:
        """Render every file; raises ``TemplateError``."""
        self._outcome, self._files = self._names.failed(), frozenset()
        self._limits = {}
        items = self._names.items()
        files: dict[Path, bytes] = {}
        names: set[Path] = set()
        outcomes: list[Outcome[Entry]] = []
        try:
            for item in items or ():
                path = self._names.path_of(item)
                if path is None:
                    continue
                if path in names:
                    reason = f"two items have the file {path}"
                    raise TemplateError(str(self.source.pattern), None, reason)
                names.add(path)
                try:
                    rendered = self.body.render({"item": item})
                except TemplateError:
                    outcomes.append(self.body.failed())
                    raise
                finally:
                    self._files |= self.body.files()
                    self._limits |= self.body.limits()
                outcomes.append(rendered.outcome)
                if rendered.outcome.complete:
                    files[path] = rendered.content
        finally:
            self._outcome = _all([self._names.outcome(), *outcomes])
        outcome = self._outcome
        if outcome.waiting:
            # Another pass follows at once; the commands had better wait for it.
            return Made({}, outcome, None)
        is_known = items is not None and self._names.outcome().complete
        return Made(files, outcome, frozenset(names) if is_known else None)

    def render(self, variables: Mapping[str, Any] = NO_VARIABLES) -> Rendered:
        """Render all files, for what they use; the text is empty."""
        del variables
        return Rendered(b"", self.make().outcome)

    def failed(self) -> Outcome[Entry]:
        """Return the outcome of the render that has just raised."""
        return replace(self._outcome, failed=True)

    def files(self) -> frozenset[Path]:
        """Return the files the last render read by ``file``."""
        return self._files | self._names.files()

    def limits(self) -> Mapping[Entry, float]:
        """Return how long what the last render used may be absent, in seconds."""
        return {**self._limits, **self._names.limits()}

    def parts(self) -> frozenset[Path]:
        """Return the files the template is made of."""
        return self.body.parts() | self._names.parts()

    def lint(self) -> list[TemplateError]:
        """Return what is wrong without any data: names that nothing defines."""
        problems = self._names.lint()
        return problems + (self.body.lint() if isinstance(self.body, Template) else [])


def _all(outcomes: list[Outcome[Entry]]) -> Outcome[Entry]:
    return Outcome(
        used=frozenset(entry for one in outcomes for entry in one.used),
        waiting=frozenset(entry for one in outcomes for entry in one.waiting),
        missing=frozenset(entry for one in outcomes for entry in one.missing),
        failed=any(one.failed for one in outcomes),
    )


class Ledger:
    """Which files a ``for_each`` made, kept in a small file beside them."""

    def __init__(self, source: TemplateSource) -> None:
        """Read nothing yet."""
        self.folder = fixed_folder(source.pattern)
        named = f"{source.path or source.contents}\0{source.pattern}"
        digest = hashlib.sha256(named.encode("utf-8", "surrogateescape")).hexdigest()
        self.path = self.folder / f".pyconsul-template-{digest[:12]}"
        self._known: frozenset[Path] | None = None

    def known(self) -> frozenset[Path]:
        """Return the files; none when it cannot be read."""
        if self._known is None:
            try:
                with self.path.open("rb") as file:
                    text = os.fsdecode(file.read(RECORD_BYTES_MAX))
            except OSError:
                text = ""
            # Whoever may write there must not choose what else we remove.
            names = (PurePosixPath(line) for line in text.splitlines())
            self._known = frozenset(
                self.folder / name
                for name in names
                if name.parts and ".." not in name.parts and not name.is_absolute()
            )
        return self._known

    def save(self, files: frozenset[Path]) -> None:
        """Keep these; raises ``OutputError``."""
        if files == self.known():
            return
        names = sorted(str(path.relative_to(self.folder)) for path in files)
        text = "".join(f"{name}\n" for name in names)
        commit(stage(Target(path=self.path, mode=0o600), os.fsencode(text)))
        self._known = files


def remove(target: Target, *, keeps_bytes: bool) -> tuple[bool, bytes | None]:
    """Remove a file whose item vanished, to ``.bak`` when a backup is asked for.

    Returns whether there was one, and with ``keeps_bytes`` what was in it.
    """
    path = target.path
    real = Path(os.path.realpath(path.parent))
    if target.root is not None and not real.is_relative_to(
        os.path.realpath(target.root)
    ):
        raise OutputError(f"{path}: {real} is outside of {target.root}")
    try:
        previous = path.read_bytes() if keeps_bytes else None
        if target.keep_backup:
            path.replace(path.with_name(path.name + ".bak"))
        else:
            path.unlink()
    except FileNotFoundError:
        return False, None
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}") from error
    return True, previous
