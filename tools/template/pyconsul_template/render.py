"""Templates: Jinja2 in its sandbox, errors as ``file:line: text``.

One environment a template, so that delimiters, strictness, denied functions and
the folder for ``include`` are its own. An unknown name is an error; a missing
attribute or map key is empty unless ``error_on_missing_key``.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from jinja2 import (
    BaseLoader,
    ChoiceLoader,
    DictLoader,
    Environment,
    FileSystemLoader,
    TemplateSyntaxError,
)
from jinja2 import (
    Template as JinjaTemplate,
)
from jinja2 import (
    TemplateError as JinjaError,
)
from jinja2.meta import find_undeclared_variables
from jinja2.nodes import Name
from msgspec import Struct

from pyconsul_template.engine import Outcome
from pyconsul_template.environment import TemplateEnvironment
from pyconsul_template.extras import FILTERS, FUNCTIONS, SPELLINGS, Scratch, Writes
from pyconsul_template.helpers import (
    FUNCTIONS_ONLY,
    HELPERS,
    JINJA_FILTERS,
    as_filter,
    camel_case,
)
from pyconsul_template.lookups import LOOKUP_FILTERS
from pyconsul_template.more_lookups import MoreLookups
from pyconsul_template.pending import absorbing
from pyconsul_template.rare import named_in
from pyconsul_template.source import Entry, Source
from pyconsul_template.sprigs import sprigs_in

NO_VARIABLES: Mapping[str, Any] = {}
OUTPUT_BYTES_MAX = 256 * 1024 * 1024
"""A larger text is a template that does not end, not a configuration file."""


class TemplateError(Exception):
    """A template is wrong: ``str`` is ``file:line: text``."""

    def __init__(self, path: str, line: int | None, text: str) -> None:
        self.path = path
        self.line = line
        where = path if line is None else f"{path}:{line}"
        super().__init__(f"{where}: {text}")


class TemplateSource(Struct, frozen=True, kw_only=True):
    """Where a template's text is and how to read it."""

    path: Path | None = None
    """The file; ``None`` when ``contents`` has the text."""
    contents: str = ""
    name: str = ""
    """What errors call a template that is no file."""
    left_delimiter: str = "{{"
    right_delimiter: str = "}}"
    error_on_missing_key: bool = False
    denied: tuple[str, ...] = ()
    """Function names or patterns that the template may not use."""
    syntax: str = "auto"
    """The language, a key of ``syntax.SYNTAXES``; ``auto`` goes by the suffix."""
    is_dry: bool = False
    """Whether nothing may be written, by ``writeToFile`` either."""
    file_root: Path | None = None
    """The directory ``file`` may not leave; ``None`` for no limit."""
    include_path: tuple[Path, ...] = ()
    """Folders that ``include`` looks in after the template's own."""
    for_each: str = ""
    """An expression whose items make a file each; empty for one file."""
    pattern: str = ""
    """With ``for_each``, the template of the files' names."""

    @property
    def is_many(self) -> bool:
        """Whether it makes any number of files."""
        return bool(self.for_each)


def fixed_folder(pattern: str) -> Path:
    """Return the folder that all files of a ``for_each`` are in, absolute.

    Raises ``ValueError`` when the pattern names the same file for every item.
    """
    marks = [at for mark in ("{{", "{%") if (at := pattern.find(mark)) >= 0]
    if not marks:
        raise ValueError("for_each: destination needs a {{ item }}")
    folder = pattern[: min(marks)].rpartition("/")[0]
    return Path(folder or ("/" if pattern.startswith("/") else ".")).absolute()


class Rendered(Struct, frozen=True):
    """A render: the text (meaningless unless complete) and what it used."""

    content: bytes
    outcome: Outcome[Entry]


class _Loader(FileSystemLoader):
    """A loader that notes which files it read."""

    def __init__(self, folders: Sequence[Path], use: Callable[[str], None]) -> None:
        """``use`` is told each text before it is compiled."""
        super().__init__(folders)
        self.read: set[Path] = set()
        self._use = use

    def get_source(
        self, environment: Environment, template: str
    ) -> tuple[str, str, Callable[[], bool]]:
        text, name, is_fresh = super().get_source(environment, template)
        self.read.add(Path(name))
        self._use(text)
        return text, name, is_fresh


class Template:
    """A compiled template bound to a source of data."""

    def __init__(self, source: TemplateSource, data: Source) -> None:
        """Compile; raises ``TemplateError`` for a missing file or wrong syntax."""
        self.source = source
        self._label = str(source.path) if source.path else source.name or "contents"
        self._lookups = MoreLookups(data, source.file_root)
        self._scratch = Scratch()
        self._writes = Writes(source.file_root)
        self._environment = self._make_environment()
        self._template = self._load()

    def _make_environment(self) -> TemplateEnvironment:
        source = self.source
        folders = [source.path.parent] if source.path is not None else []
        files = self._files = _Loader([*folders, *source.include_path], self._use)
        loader: BaseLoader = files
        if source.path is None:
            loader = ChoiceLoader([DictLoader({self._label: source.contents}), files])
        environment = TemplateEnvironment(
            source.left_delimiter,
            source.right_delimiter,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            loader=loader,
            auto_reload=False,
            extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"],
        )
        environment.is_lenient = not source.error_on_missing_key
        helpers = {name: absorbing(helper) for name, helper in HELPERS.items()}
        more = {name: absorbing(helper) for name, helper in FUNCTIONS.items()}
        write = {"write_to_file": absorbing(self._writes.write_to_file)}
        functions = {**helpers, **more, **write, **self._lookups.table()}
        filters = {
            name: as_filter(helper)
            for name, helper in helpers.items()
            if name not in FUNCTIONS_ONLY | JINJA_FILTERS
        }
        filters |= {name: as_filter(more[name]) for name in FILTERS}
        filters |= {name: functions[name] for name in LOOKUP_FILTERS}
        allowed = self._allowed(functions)
        environment.globals.update(allowed)
        environment.trust(allowed.values())
        names: dict[str, Any] = {"scratch": self._scratch}
        environment.globals.update(names)
        environment.tests["key_exists"] = allowed["key_exists"]
        environment.filters.update(self._allowed(filters))
        return environment

    def _use(self, text: str) -> None:
        """Add the functions a text names that are not in every environment."""
        sprigs = sprigs_in(text)
        functions, filters = named_in(text)
        filters |= {name: as_filter(function) for name, function in sprigs.items()}
        self._environment.globals.update(self._allowed(sprigs | functions))
        self._environment.filters.update(self._allowed(filters))

    def _allowed(
        self, functions: Mapping[str, Callable[..., Any]]
    ) -> dict[str, Callable[..., Any]]:
        """Return the functions under both spellings, denied ones as refusals."""
        table: dict[str, Callable[..., Any]] = {}
        for name, function in functions.items():
            names = {name, camel_case(name)}
            names |= {known for known, own in SPELLINGS.items() if own == name}
            if any(
                fnmatch.fnmatchcase(n, p) for n in names for p in self.source.denied
            ):
                function = _refusal(name)
            table |= dict.fromkeys(names, function)
        return table

    def _load(self) -> JinjaTemplate:
        path = self.source.path
        name = self._label if path is None else path.name
        self._use(self.source.contents + self.source.for_each)
        if path is not None:
            try:
                with path.open(encoding="utf-8") as file:
                    file.read()
            except OSError as error:
                raise TemplateError(str(path), None, error.strerror or "?") from error
            except UnicodeDecodeError as error:
                raise TemplateError(str(path), None, f"not UTF-8: {error}") from error
        try:
            return self._environment.get_template(name)
        except JinjaError as error:
            raise self._located(error) from error

    def render(self, variables: Mapping[str, Any] = NO_VARIABLES) -> Rendered:
        """Render with the data there is now; raises ``TemplateError``.

        An error while data is missing is no error: it comes from the missing data.
        """
        lookups = self._lookups
        lookups.begin()
        self._scratch.forget()
        self._writes.forget()
        try:
            text = self._template.render(variables)
        except Exception as error:
            # Whatever a template's expression raises is the template's error.
            if not lookups.is_held():
                raise self._located(error) from error
            text = ""
        content = text.encode("utf-8", "surrogateescape")
        if len(content) > OUTPUT_BYTES_MAX:
            raise TemplateError(self._label, None, f"over {OUTPUT_BYTES_MAX} bytes")
        if not (lookups.is_held() or self.source.is_dry):
            try:
                self._writes.commit()
            except Exception as error:
                raise self._located(error) from error
        return Rendered(content, lookups.outcome())

    def failed(self) -> Outcome[Entry]:
        """Return the outcome of the render that has just raised."""
        return self._lookups.outcome(failed=True)

    def files(self) -> frozenset[Path]:
        """Return the files the last render read by ``file``."""
        return self._lookups.files

    def limits(self) -> Mapping[Entry, float]:
        """Return how long what the last render used may be absent, in seconds."""
        return self._lookups.limits

    def lint(self) -> list[TemplateError]:
        """Return what is wrong without any data: names that nothing defines."""
        environment, own = self._environment, self.source.path
        text = self.source.contents if own is None else own.read_text()
        tree = environment.parse(text)
        known = {*environment.globals, *(["item"] * self.source.is_many)}
        problems: list[TemplateError] = []
        for name in sorted(find_undeclared_variables(tree) - known):
            lines = [n.lineno for n in tree.find_all(Name) if n.name == name]
            close = difflib.get_close_matches(name, known, 1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            line = min(lines, default=None)
            problems.append(
                TemplateError(self._label, line, f"'{name}' is undefined{hint}")
            )
        return problems

    def parts(self) -> frozenset[Path]:
        """Return the files the template is made of: its own and those included."""
        own = self.source.path
        return frozenset(self._files.read if own is None else (own, *self._files.read))

    def _located(self, error: Exception) -> TemplateError:
        if isinstance(error, TemplateSyntaxError):
            path = error.filename or self._label
            return TemplateError(path, error.lineno, error.message or "syntax error")
        path, line = _template_line(error.__traceback__) or (self._label, None)
        if path == "<template>":
            path = self._label
        text = str(error) or type(error).__name__
        if not isinstance(error, JinjaError):
            text = f"{type(error).__name__}: {text}"
        return TemplateError(path, line, text)


def _template_line(traceback: TracebackType | None) -> tuple[str, int] | None:
    """Return the innermost template file and line; Jinja2 marks such frames."""
    found: tuple[str, int] | None = None
    while traceback is not None:
        frame = traceback.tb_frame
        if "__jinja_exception__" in frame.f_globals:
            found = frame.f_code.co_filename, traceback.tb_lineno
        elif "__jinja_template__" in frame.f_globals:
            template = cast("JinjaTemplate", frame.f_globals["__jinja_template__"])
            line = template.get_corresponding_lineno(traceback.tb_lineno)
            found = frame.f_code.co_filename, line
        traceback = traceback.tb_next
    return found


def _refusal(name: str) -> Callable[..., Any]:
    def refuse(*_args: Any, **_kwargs: Any) -> Any:
        raise PermissionError(f"{name} is denied by function_denylist")

    return refuse
