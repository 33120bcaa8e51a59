"""The YAML that configuration is written in, as Go's ``yaml.v2`` reads it.

Block and flow maps and lists, plain, quoted and block scalars, comments, one
document, anchors and aliases of whole nodes. Numbers are ints where JSON's are
floats. Tags and complex keys are refused.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, cast

DEPTH_MAX = 60
NODES_MAX = 1_000_000
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0o?[0-7_]+|0b[01_]+)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?")
_TRUE = ("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON")
_FALSE = ("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(_TRUE, True),
    **dict.fromkeys(_FALSE, False),
    **dict.fromkeys((".inf", ".Inf", "+.inf"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN"), float("nan")),
}
_KEY = re.compile(
    r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s"'\[\]{}#,&*!|>%@`-][^#]*?|-[^\s#][^#]*?"""
    r"""|[^\s"'\[\]{}#,&*!|>%@`][^:]*?(?:\#[^:]*?)?)\s*:(?=\s|$)"""
)
_BLOCK = re.compile(r"([|>])([-+]?)([1-9]?)([-+]?)\s*(?:#.*)?")
_ANCHOR = re.compile(r"&(\S+)(?:\s+|$)")


class YamlError(ValueError):
    """A text that is no such YAML; the words are Go's, with the line."""


@dataclass(slots=True)
class _Line:
    number: int
    indent: int
    text: str


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML text, ``{}`` for an empty one.

    Raises YamlError.
    """
    if not text.strip():
        return {}
    value = _Reader(text).document()
    return {} if value is None else value


class _Reader:
    def __init__(self, text: str) -> None:
        self._lines = text.replace("\r\n", "\n").split("\n")
        self._at = 0
        self._anchors: dict[str, Any] = {}
        self._nodes = 0
        self._flow = ""
        self._place = 0

    def _bad(self, what: str) -> YamlError:
        return YamlError(f"yaml: line {min(self._at + 1, len(self._lines))}: {what}")

    def _peek(self) -> _Line | None:
        """Return the next line with content."""
        while self._at < len(self._lines):
            raw = self._lines[self._at]
            text = raw.lstrip(" ")
            if text.startswith("\t") and text.strip():
                raise self._bad("found character that cannot start any token")
            if text.strip() and not text.startswith("#"):
                return _Line(self._at, len(raw) - len(text), text.rstrip())
            self._at += 1
        return None

    def document(self) -> Any:
        line = self._peek()
        while line is not None and line.text.startswith("%"):
            self._at += 1
            line = self._peek()
        if line is not None and re.match(r"---(?:\s|$)", line.text) and not line.indent:
            rest = line.text[3:].lstrip()
            self._lines[line.number] = rest
            if not rest or rest.startswith("#"):
                self._at += 1
        value = self._node(0, 0)
        line = self._peek()
        if line is not None and line.text not in ("...", "---"):
            raise self._bad("did not find expected <document start>")
        return value

    def _count(self, depth: int) -> None:
        self._nodes += 1
        if depth > DEPTH_MAX:
            raise self._bad(f"nested deeper than {DEPTH_MAX}")
        if self._nodes > NODES_MAX:
            raise self._bad(f"over {NODES_MAX} values")

    def _node(self, indent: int, depth: int) -> Any:
        """Return the node whose first line is at least at ``indent``."""
        self._count(depth)
        line = self._peek()
        if line is None or line.indent < indent or line.text in ("---", "..."):
            return None
        if line.text == "-" or line.text.startswith("- "):
            return self._list(line.indent, depth)
        if _KEY.match(line.text):
            return self._map(line.indent, depth)
        self._at += 1
        return self._inline(line.text, line.indent, indent - 1, depth)

    def _list(self, indent: int, depth: int) -> list[Any]:
        items: list[Any] = []
        while (line := self._peek()) is not None and line.indent == indent:
            if not (line.text == "-" or line.text.startswith("- ")):
                break
            rest = line.text[1:].lstrip()
            if not rest or rest.startswith("#"):
                self._at += 1
                items.append(self._node(indent + 1, depth + 1))
                continue
            inner = indent + len(line.text) - len(rest)
            is_block = rest == "-" or rest.startswith("- ") or _KEY.match(rest)
            if is_block:
                # What follows the dash is a node of its own, at its own column.
                self._lines[line.number] = " " * inner + rest
                items.append(self._node(inner, depth + 1))
            else:
                self._at += 1
                items.append(self._inline(rest, inner, indent, depth + 1))
        if line is not None and line.indent > indent:
            raise self._bad("did not find expected '-' indicator")
        return items

    def _map(self, indent: int, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: list[Any] = []
        while (line := self._peek()) is not None and line.indent == indent:
            match = _KEY.match(line.text)
            if match is None or line.text in ("---", "..."):
                break
            key = self._key(match[0].rstrip()[:-1].rstrip())
            rest = line.text[match.end() :].lstrip()
            self._at += 1
            anchor = _ANCHOR.match(rest)
            if anchor is not None:
                rest = rest[anchor.end() :]
            if not rest or rest.startswith("#"):
                value = self._below(indent, depth)
            else:
                value = self._inline(rest, indent, indent, depth + 1)
            if anchor is not None:
                self._anchors[anchor[1]] = value
            if key == "<<":
                merged += value if isinstance(value, list) else [value]
            elif key in found:
                raise self._bad(f'key "{key}" already set in map')
            else:
                found[key] = value
        if line is not None and line.indent > indent:
            raise self._bad("mapping values are not allowed in this context")
        if (
            line is not None
            and line.indent == indent
            and not _KEY.match(line.text)
            and line.text not in ("---", "...")
        ):
            raise self._bad("could not find expected ':'")
        for extra in merged:
            if isinstance(extra, dict):
                found = cast("dict[str, Any]", extra) | found
        return found

    def _below(self, indent: int, depth: int) -> Any:
        """Return the value of a key that has none on its line."""
        line = self._peek()
        if line is None or line.indent < indent:
            return None
        is_list = line.text == "-" or line.text.startswith("- ")
        if line.indent == indent:
            # A list may stand at its key's own column.
            return self._list(indent, depth + 1) if is_list else None
        return self._node(indent + 1, depth + 1)

    def _key(self, text: str) -> str:
        if text[:1] in ("'", '"'):
            return str(self._quoted(text))
        return text

    def _inline(self, text: str, column: int, parent: int, depth: int) -> Any:
        """Return a value that begins on the line just taken."""
        del column
        self._count(depth)
        anchor = _ANCHOR.match(text)
        if anchor is not None:
            rest = text[anchor.end() :]
            value = (
                self._inline(rest, 0, parent, depth + 1)
                if rest
                else self._node(parent + 1, depth + 1)
            )
            self._anchors[anchor[1]] = value
            return value
        block = _BLOCK.fullmatch(text)
        if block is not None:
            return self._block(block, parent)
        first = text[0]
        if first == "*":
            name = text[1:].split(" #")[0].strip()
            if name not in self._anchors:
                raise self._bad(f"unknown anchor '{name}' referenced")
            return self._anchors[name]
        if first == "!":
            raise self._bad("tags are not supported")
        if first in "[{":
            return self._flow_value(self._joined(text, parent), depth)
        if first in "\"'":
            return self._quoted(self._until_quote(text, parent))
        if first in "@`%":
            raise self._bad("found character that cannot start any token")
        scalar = self._folded(text, parent)
        if re.search(r":(?:\s|$)", scalar):
            raise self._bad("mapping values are not allowed in this context")
        return _scalar(scalar)

    def _folded(self, text: str, parent: int) -> str:
        """Return a plain scalar with the lines that go on with it."""
        parts = [_uncommented(text)]
        while parts[-1] == text and (line := self._peek()) is not None:
            if line.indent <= parent or _KEY.match(line.text):
                break
            text = line.text
            parts.append(_uncommented(text))
            self._at += 1
        return " ".join(parts)

    def _joined(self, text: str, parent: int) -> str:
        """Return a flow collection with the lines up to its last bracket."""
        while not _is_balanced(text):
            line = self._peek()
            if line is None or line.indent <= parent - 1:
                raise self._bad("did not find expected ',' or ']'")
            text = f"{_uncommented(text)} {line.text}"
            self._at += 1
        return text

    def _until_quote(self, text: str, parent: int) -> str:
        quote = text[0]
        pattern = r'"(?:[^"\\]|\\.)*"' if quote == '"' else r"'(?:[^']|'')*'"
        while not (match := re.match(pattern, text, re.DOTALL)):
            if self._at >= len(self._lines):
                raise self._bad("found unexpected end of stream")
            following = self._lines[self._at].strip()
            self._at += 1
            text = f"{text} {following}" if following else f"{text}\n"
        rest = text[match.end() :].strip()
        if rest and not rest.startswith("#"):
            raise self._bad("did not find expected end of scalar")
        del parent
        return match[0]

    def _block(self, match: re.Match[str], parent: int) -> str:
        style, chomp = match[1], match[2] or match[4]
        lines: list[str] = []
        indent = parent + int(match[3]) if match[3] else None
        if match[3] and parent < 0:
            indent = int(match[3])
        while self._at < len(self._lines):
            raw = self._lines[self._at]
            own = len(raw) - len(raw.lstrip(" "))
            if raw.strip():
                if indent is None:
                    if own <= parent:
                        break
                    indent = own
                if own < indent:
                    break
                lines.append(raw[indent:])
            else:
                lines.append(raw[indent:] if indent is not None else "")
            self._at += 1
        kept = len(lines)
        while kept and not lines[kept - 1].strip():
            kept -= 1
        tail = len(lines) - kept
        body = "\n".join(lines[:kept]) if style == "|" else _fold(lines[:kept])
        if chomp == "-" or not kept:
            return body
        return body + "\n" * (1 + (tail - 1 if chomp == "+" and tail else 0))

    def _quoted(self, text: str) -> str:
        if text.startswith("'"):
            return text[1:-1].replace("''", "'")
        try:
            fixed = re.sub(
                r"\\(?:x([0-9a-fA-F]{2})|U([0-9a-fA-F]{8})|([0aev N_LP])|(.))",
                _json_escape,
                text,
                flags=re.DOTALL,
            )
            return json.loads(fixed, strict=False)
        except ValueError:
            raise self._bad("found unknown escape character") from None

    # Flow collections

    def _flow_value(self, text: str, depth: int) -> Any:
        self._flow, self._place = text, 0
        value = self._flow_node(depth)
        rest = self._flow[self._place :].strip()
        if rest and not rest.startswith("#"):
            raise self._bad("did not find expected end of collection")
        return value

    def _flow_space(self) -> str:
        while self._flow[self._place : self._place + 1] in (" ", "\t"):
            self._place += 1
        return self._flow[self._place : self._place + 1]

    def _flow_node(self, depth: int) -> Any:
        self._count(depth)
        char = self._flow_space()
        if char == "[":
            self._place += 1
            items: list[Any] = []
            while (char := self._flow_space()) != "]":
                if not char:
                    raise self._bad("did not find expected ',' or ']'")
                items.append(self._flow_node(depth + 1))
                self._flow_comma("]")
            self._place += 1
            return items
        if char == "{":
            self._place += 1
            found: dict[str, Any] = {}
            while (char := self._flow_space()) != "}":
                if not char:
                    raise self._bad("did not find expected ',' or '}'")
                key = self._flow_scalar(is_key=True)
                if self._flow_space() == ":":
                    self._place += 1
                    empty = self._flow_space() in (",", "}")
                    found[str(key)] = None if empty else self._flow_node(depth + 1)
                else:
                    found[str(key)] = None
                self._flow_comma("}")
            self._place += 1
            return found
        return self._flow_scalar(is_key=False)

    def _flow_comma(self, closing: str) -> None:
        char = self._flow_space()
        if char == ",":
            self._place += 1
        elif char != closing:
            raise self._bad(f"did not find expected ',' or '{closing}'")

    def _flow_scalar(self, *, is_key: bool) -> Any:
        rest = self._flow[self._place :]
        match = re.match(r'"(?:[^"\\]|\\.)*"|\'(?:[^\']|\'\')*\'', rest)
        if match is not None:
            self._place += match.end()
            return self._quoted(match[0])
        match = re.match(r"(?:[^,\[\]{}:#]|:(?![\s,\]}]|$)|(?<!\s)#)+", rest)
        if match is None:
            raise self._bad("did not find expected node content")
        self._place += match.end()
        text = match[0].strip()
        if text.startswith("*") and text[1:] in self._anchors:
            return self._anchors[text[1:]]
        return text if is_key else _scalar(text)


def _json_escape(match: re.Match[str]) -> str:
    byte, wide, special, other = match.groups()
    if byte:
        return f"\\u00{byte}"
    if wide:
        return json.dumps(chr(int(wide, 16)))[1:-1]
    if special:
        table = {"0": 0, "a": 7, "e": 27, "v": 11, " ": 32, "N": 0x85, "_": 0xA0}
        return f"\\u{table.get(special, 0x2028 + (special == 'P')):04x}"
    return "\\" + other if other != "\n" else ""


def _uncommented(text: str) -> str:
    return re.split(r"\s#", text, maxsplit=1)[0].rstrip()


def _is_balanced(text: str) -> bool:
    bare = re.sub(r'"(?:[^"\\]|\\.)*"|\'(?:[^\']|\'\')*\'', "", text)
    opened = bare.count("[") + bare.count("{")
    return opened <= bare.count("]") + bare.count("}")


def _fold(lines: list[str]) -> str:
    found: list[str] = []
    for number, line in enumerate(lines):
        if number == 0:
            found.append(line)
            continue
        before = lines[number - 1]
        is_kept = line.startswith((" ", "\t")) or before.startswith((" ", "\t"))
        if not line:
            found.append("\n")
        elif is_kept:
            found.append("\n" + line)
        elif before:
            found.append(" " + line)
        else:
            found.append(line)
    return "".join(found)


def _scalar(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if not (text[0].isdigit() or text[0] in "+-."):
        return text
    if len(text) < 40 and _INT.fullmatch(text):
        plain = text.replace("_", "")
        if re.fullmatch(r"[-+]?0[0-7]+", plain):
            return int(plain, 8)
        return int(plain, 0)
    if len(text) < 400 and _FLOAT.fullmatch(text):
        return float(text.replace("_", ""))
    return text
