"""From keys to names of variables: formats, sanitizing, upper case.

A format is text with ``{{ ... }}``: a word (``key``, or ``service`` too, for
services), then functions after ``|``, with ``"..."`` or `` `...` `` for their
arguments. Source: envconsul, observed; ``replaceKey`` replaces a name that is
equal to its first argument.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Piece = str | tuple[str, list[tuple[str, list[str]]]]

_TOKEN = re.compile(
    r"""\s*(?:(?P<word>[A-Za-z_][A-Za-z0-9_.]*)|(?P<pipe>\|)"""
    r"""|"(?P<quoted>(?:[^"\\\n]|\\.)*)"|`(?P<raw>[^`]*)`)"""
)
_ESCAPE = re.compile(r"\\(.)")
_ODD = re.compile(r"[^A-Za-z0-9_]")
_OPEN, _CLOSE = "{{", "}}"


class FormatError(ValueError):
    """A format that cannot be read; the text says why."""


def _replace_key(name: str, old: str, new: str) -> str:
    return new if name == old else name


_FUNCTIONS: dict[str, tuple[int, Callable[..., str]]] = {
    "replaceAll": (2, str.replace),
    "replaceKey": (2, _replace_key),
    "toLower": (0, str.lower),
    "toUpper": (0, str.upper),
    "trimPrefix": (1, str.removeprefix),
    "trimSuffix": (1, str.removesuffix),
}
"""By name: how many texts it takes, and what it does to a name."""


class Format:
    """A format, read; raises FormatError."""

    def __init__(self, source: str, words: tuple[str, ...] = ("key",)) -> None:
        self._pieces: list[Piece] = []
        rest = source
        while rest:
            before, opened, rest = rest.partition(_OPEN)
            self._pieces.append(before)
            if not opened:
                break
            inside, closed, rest = rest.partition(_CLOSE)
            if not closed:
                raise FormatError(f'format "{source}": {_OPEN} without {_CLOSE}')
            trimmed = inside.removeprefix("-").removesuffix("-")
            self._pieces.append(_action(trimmed, words, source))

    def __call__(self, values: Mapping[str, str]) -> str:
        """Return the name for the values of the words."""
        parts: list[str] = []
        for piece in self._pieces:
            if isinstance(piece, str):
                parts.append(piece)
                continue
            word, calls = piece
            text = values[word]
            for name, arguments in calls:
                text = _FUNCTIONS[name][1](text, *arguments)
            parts.append(text)
        return "".join(parts)


def sanitized(name: str) -> str:
    """Replace each character that no variable may have with ``_``."""
    return _ODD.sub("_", name)


def read_path(path: str, environ: Mapping[str, str]) -> str:
    """Return a path with each ``{{ env "X" }}`` replaced; FormatError if unset."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in environ:
            raise FormatError(f'"{path}": the variable {name} is not set')
        return environ[name]

    found = re.sub(r"\{\{-?\s*env\s+[\"`]([^\"`]+)[\"`]\s*-?\}\}", value, path)
    if _OPEN in found and _OPEN not in "".join(environ.values()):
        raise FormatError(f'"{path}": only {{{{ env "NAME" }}}} is understood')
    return found


def _action(
    text: str, words: tuple[str, ...], source: str
) -> tuple[str, list[tuple[str, list[str]]]]:
    steps: list[list[tuple[str, str]]] = [[]]
    at = 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise FormatError(f'format "{source}": unexpected {text[at:].strip()!r}')
        at = match.end()
        if match["pipe"]:
            steps.append([])
        elif match["word"] is not None:
            steps[-1].append(("word", match["word"]))
        else:
            raw = match["raw"]
            plain = _ESCAPE.sub(r"\1", match["quoted"]) if raw is None else raw
            steps[-1].append(("text", plain))
    first, *others = steps
    if len(first) != 1 or first[0][0] != "word" or first[0][1] not in words:
        raise FormatError(f'format "{source}": expected one of: {", ".join(words)}')
    calls: list[tuple[str, list[str]]] = []
    for step in others:
        kind, name = step[0] if step else ("", "")
        known = _FUNCTIONS.get(name) if kind == "word" else None
        if known is None:
            raise FormatError(f'format "{source}": unknown function {name!r}')
        arguments = [value for kind, value in step[1:] if kind == "text"]
        if len(arguments) != known[0] or len(step) != known[0] + 1:
            raise FormatError(f'format "{source}": {name} takes {known[0]} texts')
        calls.append((name, arguments))
    return first[0][1], calls
