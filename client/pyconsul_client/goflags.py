"""Command-line flags with the grammar and the messages of Go's ``flag`` package.

``-name`` and ``--name`` are one flag; ``-name=value`` and ``-name value`` both
give a value; a boolean takes one only with ``=``. Parsing stops at the first
operand, a lone ``-`` is an operand, and ``--`` ends the flags and is dropped.
Observed: Consul 1.10.11 command line.

Imports nothing but the errors: ``kv get`` has a start-up budget.
"""

from __future__ import annotations

from .errors import FlagError, HelpRequested

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PARSE_ERROR = "parse error"
HELP_WIDTH = 72
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))
_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,  # U+00B5
    "μs": 1e-6,  # U+03BC
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
DURATION_MAX_S = (1 << 63) / 1e9
"""As many nanoseconds as 64 bits hold."""
_DIGITS = frozenset("0123456789")


def parse_bool(text: str) -> bool:
    """Return the boolean Go's ``strconv.ParseBool`` reads, or raise ValueError."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def parse_duration(text: str) -> float:
    """Return the seconds of a Go duration (``1h30m``, ``300ms``, ``0``).

    Raises ValueError with Go's text for anything else, a bare number included.
    """
    body, sign = text, 1.0
    if body[:1] in ("+", "-"):
        sign = -1.0 if body[0] == "-" else 1.0
        body = body[1:]
    if body == "0":
        return 0.0
    if not body:
        raise ValueError(f'time: invalid duration "{text}"')
    total, at = 0.0, 0
    while at < len(body):
        start = at
        while at < len(body) and (body[at] in _DIGITS or body[at] == "."):
            at += 1
        number = body[start:at]
        if not number or number == "." or number.count(".") > 1:
            raise ValueError(f'time: invalid duration "{text}"')
        start = at
        while at < len(body) and body[at] not in _DIGITS and body[at] != ".":
            at += 1
        unit = body[start:at]
        if not unit:
            raise ValueError(f'time: missing unit in duration "{text}"')
        if unit not in _UNITS:
            raise ValueError(f'time: unknown unit "{unit}" in duration "{text}"')
        total += float(number) * _UNITS[unit]
        if total >= DURATION_MAX_S:
            raise ValueError(f'time: invalid duration "{text}"')
    return sign * total


def quoted(text: str) -> str:
    """Return a text in quotes with Go's escapes."""
    marks = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    found = (
        marks.get(char)
        or (char if char.isprintable() else f"\\x{ord(char) & 0xFF:02x}")
        for char in text
    )
    return f'"{"".join(found)}"'


class _Flag:
    __slots__ = ("group", "help", "kind", "name", "parse", "placeholder", "value")

    def __init__(
        self,
        name: str,
        kind: str,
        value: object,
        parse: Callable[[str], object],
        text: str,
        placeholder: str,
        group: str,
    ) -> None:
        self.name = name
        self.kind = kind
        self.value = value
        self.parse = parse
        self.help = text
        self.placeholder = placeholder
        self.group = group


class FlagSet:
    """The flags of one command: declare, :meth:`parse`, then read by name."""

    def __init__(self) -> None:
        self._flags: dict[str, _Flag] = {}
        self.given: set[str] = set()
        """Names that the command line set."""
        self.operands: list[str] = []
        """What follows the flags."""

    def string(
        self,
        name: str,
        default: str = "",
        text: str = "",
        *,
        placeholder: str = "value",
        group: str = "Command Options",
    ) -> None:
        """Declare a text flag; the last one given wins."""
        self._add(name, "one", default, str, text, placeholder, group)

    def strings(
        self,
        name: str,
        text: str = "",
        *,
        placeholder: str = "value",
        group: str = "Command Options",
    ) -> None:
        """Declare a repeatable text flag."""
        self._add(name, "many", list[object](), str, text, placeholder, group)

    def pairs(
        self, name: str, text: str = "", *, group: str = "Command Options"
    ) -> None:
        """Declare a repeatable ``key=value`` flag."""
        self._add(name, "pairs", dict[str, str](), str, text, "key=value", group)

    def boolean(
        self,
        name: str,
        default: bool = False,
        text: str = "",
        *,
        group: str = "Command Options",
        explained: bool = False,
    ) -> None:
        """Declare a switch; ``explained`` ones say why a value is none.

        Observed: only some of Consul's flags do, others say ``parse error``.
        """
        parse = _explained(parse_bool) if explained else parse_bool
        self._add(name, "bool", default, parse, text, "", group)

    def integer(
        self,
        name: str,
        default: int = 0,
        text: str = "",
        *,
        unsigned: bool = False,
        group: str = "Command Options",
        explained: bool = False,
    ) -> None:
        """Declare a 64-bit number flag (decimal, or with Go's 0x, 0o, 0b)."""
        kind = "ParseUint" if unsigned else "ParseInt"

        def parse(value: str) -> int:
            low, high = (0, 1 << 64) if unsigned else (-(1 << 63), 1 << 63)
            octal = value.lstrip("+-")
            legacy = len(octal) > 1 and octal[0] == "0" and octal.isdecimal()
            try:
                number = int(value, 8 if legacy else 0)
            except ValueError:
                number = None
            if unsigned and value[:1] in ("+", "-"):
                number = None
            if number is None or not value.isascii() or value.strip() != value:
                raise ValueError(f'strconv.{kind}: parsing "{value}": invalid syntax')
            if not low <= number < high:
                raise _RangeError("value out of range")
            return number

        placeholder = "uint" if unsigned else "int"
        reader = _explained(parse) if explained else parse
        self._add(name, "one", default, reader, text, placeholder, group)

    def duration(
        self,
        name: str,
        default: float = 0.0,
        text: str = "",
        *,
        group: str = "Command Options",
        explained: bool = False,
    ) -> None:
        """Declare a flag of a Go duration, read in seconds."""
        parse = _explained(parse_duration) if explained else parse_duration
        self._add(name, "one", default, parse, text, "duration", group)

    def custom(
        self,
        name: str,
        default: object,
        parse: Callable[[str], object],
        text: str = "",
        *,
        placeholder: str = "value",
        group: str = "Command Options",
    ) -> None:
        """Declare a flag read by ``parse``, whose FlagError text is shown."""
        self._add(name, "one", default, parse, text, placeholder, group)

    def __contains__(self, name: str) -> bool:
        return name in self._flags

    def listed(self) -> list[tuple[str, bool, str]]:
        """Return name, whether it takes a value, and text of every flag, sorted."""
        flags = sorted(self._flags.values(), key=lambda flag: flag.name)
        return [(flag.name, flag.kind != "bool", flag.help) for flag in flags]

    def parse(self, argv: Sequence[str]) -> None:
        """Read ``argv``; raises FlagError, or HelpRequested for ``-h``."""
        flags_end = argv.index("--") if "--" in argv else len(argv)
        if any(word in ("-h", "-help", "--help") for word in argv[:flags_end]):
            raise HelpRequested
        at = 0
        while at < len(argv):
            word = argv[at]
            if len(word) < 2 or word[0] != "-":
                break
            at += 1
            if word == "--":
                break
            name = word[2:] if word[1] == "-" else word[1:]
            if not name or name[0] in "-=":
                raise FlagError(f"bad flag syntax: {word}")
            name, equals, value = name.partition("=")
            flag = self._flags.get(name)
            if flag is None and name in ("h", "help"):
                raise HelpRequested
            if flag is None:
                raise FlagError(f"flag provided but not defined: -{name}")
            if flag.kind == "bool" and not equals:
                value = "true"
            elif not equals:
                if at == len(argv):
                    raise FlagError(f"flag needs an argument: -{name}")
                value = argv[at]
                at += 1
            self._set(flag, value)
        self.operands = list(argv[at:])

    def text(self, name: str) -> str:
        """Return a text flag's value."""
        value = self._flags[name].value
        assert isinstance(value, str)
        return value

    def switch(self, name: str) -> bool:
        """Return a boolean flag's value."""
        value = self._flags[name].value
        assert isinstance(value, bool)
        return value

    def number(self, name: str) -> int:
        """Return a number flag's value."""
        value = self._flags[name].value
        assert isinstance(value, int)
        return value

    def seconds(self, name: str) -> float:
        """Return a duration flag's value in seconds."""
        value = self._flags[name].value
        assert isinstance(value, (int, float))
        return float(value)

    def many(self, name: str) -> list[str]:
        """Return a repeatable flag's values in the order given."""
        value = self._flags[name].value
        assert isinstance(value, list)
        return [str(item) for item in value]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]

    def mapping(self, name: str) -> dict[str, str]:
        """Return the pairs of a ``key=value`` flag."""
        value = self._flags[name].value
        assert isinstance(value, dict)
        return value  # pyright: ignore[reportUnknownVariableType]

    def value(self, name: str) -> object:
        """Return the value of any flag."""
        return self._flags[name].value

    def help(self, usage: str) -> str:
        """Return the help text: ``usage``, then the options by group and name."""
        groups: dict[str, list[_Flag]] = {}
        for flag in sorted(self._flags.values(), key=lambda flag: flag.name):
            groups.setdefault(flag.group, []).append(flag)
        parts = [usage.strip()]
        for title in sorted(groups, key=lambda title: title == "Command Options"):
            parts.append(title)
            for flag in groups[title]:
                mark = "" if flag.kind == "bool" else f"=<{flag.placeholder}>"
                lines = [f"  -{flag.name}{mark}", *_wrap(flag.help)]
                parts.append("\n".join(lines))
        return "\n\n".join(parts) + "\n"

    def _add(
        self,
        name: str,
        kind: str,
        value: object,
        parse: Callable[[str], object],
        text: str,
        placeholder: str,
        group: str,
    ) -> None:
        assert name not in self._flags, name
        self._flags[name] = _Flag(name, kind, value, parse, text, placeholder, group)

    def _set(self, flag: _Flag, text: str) -> None:
        if flag.kind == "pairs":
            key, equals, value = text.partition("=")
            if not equals:
                raise FlagError(
                    f"invalid value {quoted(text)} for flag -{flag.name}: "
                    f'Missing "=" value in argument: {text}'
                )
            assert isinstance(flag.value, dict)
            flag.value[key] = value  # pyright: ignore[reportUnknownMemberType]
        elif flag.kind == "many":
            assert isinstance(flag.value, list)
            flag.value.append(text)  # pyright: ignore[reportUnknownMemberType]
        else:
            flag.value = _convert(flag, text)
        self.given.add(flag.name)


class _RangeError(ValueError):
    pass


def _explained(parse: Callable[[str], object]) -> Callable[[str], object]:
    """Return ``parse`` with its reasons shown."""

    def explaining(text: str) -> object:
        try:
            return parse(text)
        except ValueError as error:
            raise FlagError(str(error)) from None

    return explaining


def _convert(flag: _Flag, text: str) -> object:
    try:
        return flag.parse(text)
    except FlagError as error:
        reason = str(error)
    except _RangeError as error:
        reason = str(error)
    except ValueError:
        reason = PARSE_ERROR
    if flag.kind == "bool":
        raise FlagError(
            f"invalid boolean value {quoted(text)} for -{flag.name}: {reason}"
        )
    raise FlagError(f"invalid value {quoted(text)} for flag -{flag.name}: {reason}")


def _wrap(text: str) -> list[str]:
    lines: list[str] = []
    line = ""
    for word in text.split():
        if line and 5 + len(line) + 1 + len(word) > HELP_WIDTH:
            lines.append("     " + line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    if line:
        lines.append("     " + line)
    return lines
