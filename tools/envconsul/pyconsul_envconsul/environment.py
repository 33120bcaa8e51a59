"""The child's environment: sources over the parent's, then filters. Pure.

Order: parent (unless pristine), sources as given (later wins), then
``exec.env``: pristine, allowlist, denylist, custom.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from .naming import sanitized

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .sources import Answer, Question, Source

    Variables = dict[bytes, bytes]


class Filters:
    """What ``exec.env`` says; patterns are globs of names."""

    __slots__ = ("allow", "custom", "deny", "pristine")

    def __init__(
        self,
        *,
        pristine: bool = False,
        custom: Sequence[str] = (),
        allow: Sequence[str] = (),
        deny: Sequence[str] = (),
    ) -> None:
        self.pristine = pristine
        self.custom = custom
        self.allow = allow
        self.deny = deny

    def __call__(self, variables: Variables) -> Variables:
        """Return what is left of the variables, and the custom ones."""
        names = [] if self.pristine else list(variables)
        if self.allow:
            names = [name for name in names if _matches(name, self.allow)]
        if self.deny:
            names = [name for name in names if not _matches(name, self.deny)]
        kept = {name: variables[name] for name in names}
        for item in self.custom:
            name, _, value = item.partition("=")
            kept[encoded(name)] = encoded(value)
        return kept


def encoded(text: str) -> bytes:
    """Return a text of the command line or the agent as bytes."""
    return text.encode("utf-8", "surrogateescape")


def collect(
    sources: Sequence[Source],
    answers: Mapping[Question, Answer],
    *,
    sanitize: bool,
    upcase: bool,
    dropped: Callable[[str], None],
) -> Variables:
    """Return the variables of all sources; ``dropped`` hears of unusable names.

    An environment cannot hold an empty name, one with ``=``, or a NUL.
    """
    found: Variables = {}
    for source in sources:
        for name, value in source.variables(answers[source.question]):
            if upcase:
                name = name.upper()
            if sanitize:
                name = sanitized(name)
            key = encoded(name)
            if not key or b"=" in key or b"\0" in key:
                dropped(f"no variable can be named {name!r}")
            elif b"\0" in value:
                dropped(f"the value of {name!r} holds a NUL byte")
            else:
                found[key] = value
    return found


def _matches(name: bytes, patterns: Sequence[str]) -> bool:
    text = name.decode("utf-8", "surrogateescape")
    return any(fnmatchcase(text, pattern) for pattern in patterns)
