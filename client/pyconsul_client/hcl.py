"""A reader of HCL 1 into plain values, as the HCL v1 library decodes it.

Every block or object is a **list with one dict**; repeating a key appends;
labels nest. ``=`` is optional before ``{`` only. Text that begins with ``{``
is JSON. Errors carry line and column (``At 2:1: ...``).
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple, cast

from .errors import SettingsError

MAX_DEPTH = 100
_INT_MAX = (1 << 63) - 1
_NUMBER = re.compile(r"-?(0[xX][0-9a-fA-F]+|[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?)")
_HEREDOC = re.compile(r"<<(-?)([A-Za-z0-9_]+)\r?\n")
_SIGNS = {
    "=": "ASSIGN",
    "{": "LBRACE",
    "}": "RBRACE",
    "[": "LBRACK",
    "]": "RBRACK",
    ",": "COMMA",
    "+": "ADD",
    "-": "SUB",
    ".": "PERIOD",
}
_JSON_SIGNS = {**_SIGNS, ":": "ASSIGN"}
_ESCAPES = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    '"': '"',
}
_CODES = {"x": 2, "u": 4, "U": 8}


class HclError(SettingsError):
    """The text is not HCL 1; the text says where."""


class _Token(NamedTuple):
    kind: str
    text: str
    value: Any
    line: int
    column: int


class _Lexer:
    def __init__(self, text: str, json: bool) -> None:
        self._text = text
        self._json = json
        self._at = 0
        self._line = 1
        self._start = 0

    def _error(self, text: str, at: int | None = None) -> HclError:
        where = self._at if at is None else at
        before = self._text[:where]
        line = before.count("\n") + 1
        column = where - (before.rfind("\n") + 1) + 1
        return HclError(f"At {line}:{column}: {text}")

    def tokens(self) -> list[_Token]:
        found: list[_Token] = []
        while (token := self._next()).kind != "EOF":
            found.append(token)
        found.append(token)
        return found

    def _token(self, kind: str, end: int, value: Any = None) -> _Token:
        text = self._text[self._at : end]
        column = self._at - self._start + 1
        token = _Token(kind, text, value, self._line, column)
        newlines = text.count("\n")
        if newlines:
            self._line += newlines
            self._start = self._at + text.rfind("\n") + 1
        self._at = end
        return token

    def _next(self) -> _Token:
        text = self._text
        while self._at < len(text):
            letter = text[self._at]
            if letter in " \t\r\n":
                self._token("", self._at + 1)
            elif letter == "#" or text.startswith("//", self._at):
                end = text.find("\n", self._at)
                self._token("", len(text) if end < 0 else end)
            elif text.startswith("/*", self._at):
                end = text.find("*/", self._at + 2)
                if end < 0:
                    raise self._error("comment not terminated", len(text))
                self._token("", end + 2)
            else:
                return self._word(letter)
        return self._token("EOF", self._at)

    def _word(self, letter: str) -> _Token:
        text, at = self._text, self._at
        if letter == '"':
            value, end = self._string()
            return self._token("STRING", end, value)
        if letter == "<" and not self._json:
            return self._heredoc()
        if letter.isalpha() or letter == "_":
            end = at
            while end < len(text) and (text[end].isalnum() or text[end] in "_-."):
                end += 1
            word = text[at:end]
            if word in ("true", "false"):
                return self._token("BOOL", end, word == "true")
            if self._json and word == "null":
                return self._token("STRING", end, "")
            return self._token("IDENT", end, word)
        match = _NUMBER.match(text, at)
        if match is not None:
            kind = "FLOAT" if match[2] or match[3] else "NUMBER"
            return self._token(kind, match.end(), self._number(match[0], kind))
        kind = (_JSON_SIGNS if self._json else _SIGNS).get(letter)
        if kind is None:
            raise self._error("illegal char")
        return self._token(kind, at + 1)

    def _number(self, word: str, kind: str) -> int | float:
        if kind == "FLOAT":
            value = float(word)
            whole = "." not in word and value.is_integer()
            return int(value) if whole else value
        digits = word.lstrip("-")
        octal = digits.startswith("0") and digits.isdigit() and len(digits) > 1
        try:
            value = int(word, 8) if octal else int(word, 0)
        except ValueError:
            raise self._error(f"illegal number {word}") from None
        if abs(value) > _INT_MAX:
            raise HclError(f'strconv.ParseInt: parsing "{word}": value out of range')
        return value

    def _string(self) -> tuple[str, int]:
        """Return the value and the end; ``${...}`` is kept, quotes and all."""
        text, at = self._text, self._at + 1
        parts: list[str] = []
        depth = 0
        while at < len(text):
            letter = text[at]
            if depth == 0 and letter == '"':
                return "".join(parts), at + 1
            if letter == "\n" and depth == 0:
                raise self._error("literal not terminated", at)
            if not self._json and text.startswith("${", at):
                doubled = depth == 0 and text[at - 1] == "$"
                depth += 0 if doubled else 1
                parts.append("${")
                at += 2
            elif depth:
                depth += (letter == "{") - (letter == "}")
                parts.append(letter)
                at += 1
            elif letter == "\\":
                value, at = self._escape(at + 1)
                parts.append(value)
            else:
                parts.append(letter)
                at += 1
        raise self._error("literal not terminated", len(text))

    def _escape(self, at: int) -> tuple[str, int]:
        letter = self._text[at : at + 1]
        if letter in _ESCAPES and letter:
            return _ESCAPES[letter], at + 1
        if self._json and letter == "/":
            return "/", at + 1
        count = _CODES.get(letter, 0)
        digits = self._text[at + 1 : at + 1 + count]
        if count and len(digits) == count and re.fullmatch("[0-9a-fA-F]+", digits):
            code = int(digits, 16)
            if code < 0x110000 and not 0xD800 <= code < 0xE000:
                return chr(code), at + 1 + count
        octal = self._text[at : at + 3]
        if re.fullmatch("[0-7]{3}", octal):
            return chr(int(octal, 8)), at + 3
        raise self._error("illegal char escape", at)

    def _heredoc(self) -> _Token:
        text = self._text
        match = _HEREDOC.match(text, self._at)
        if match is None:
            raise self._error("heredoc expected after <<")
        at, marker = match.end(), match[2]
        lines: list[str] = []
        while at < len(text):
            end = text.find("\n", at)
            end = len(text) if end < 0 else end
            line = text[at:end]
            if line.strip(" \t\r") == marker:
                body = self._dedent(lines, line) if match[1] else lines
                return self._token("HEREDOC", end, "".join(body))
            lines.append(text[at : end + 1])
            at = end + 1
        raise self._error("heredoc not terminated", len(text))

    @staticmethod
    def _dedent(lines: list[str], closing: str) -> list[str]:
        """Strip the closing marker's indentation, if every line has it."""
        indent = closing[: len(closing) - len(closing.lstrip(" \t"))]
        if not all(line.startswith(indent) for line in lines):
            return lines
        return [line[len(indent) :] for line in lines]


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0
        self._labelled: dict[tuple[int, str], list[bool]] = {}
        self._open: list[dict[str, Any]] = []
        """Every object made, so that no ``id`` of ``_labelled`` comes twice."""

    def _peek(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._tokens[self._at]
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    @staticmethod
    def _error(token: _Token, text: str) -> HclError:
        return HclError(f"At {token.line}:{token.column}: {text}")

    def document(self, json: bool) -> dict[str, Any]:
        if json:
            self._take()  # the brace
            found = self._items("RBRACE", "root")
            self._take()
            return found
        return self._items("EOF", "root")

    def _items(self, end: str, path: str) -> dict[str, Any]:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(self._peek(), "nested too deeply")
        found: dict[str, Any] = {}
        self._open.append(found)
        while (token := self._peek()).kind != end:
            if token.kind == "EOF":
                where = f"At {token.line}:{token.column + 1}"
                raise HclError(f"{where}: object expected closing RBRACE got: EOF")
            if token.kind == "RBRACE":
                raise self._error(token, "object expected closing EOF got: RBRACE")
            self._item(found, path)
            if self._peek().kind == "COMMA":
                self._take()
        self._depth -= 1
        return found

    def _item(self, found: dict[str, Any], path: str) -> None:
        keys: list[str] = []
        while (token := self._peek()).kind in ("IDENT", "STRING"):
            keys.append(str(token.value))
            self._take()
        if not keys or token.kind not in ("ASSIGN", "LBRACE"):
            if keys and token.kind != "NUMBER":
                key = self._tokens[self._at - 1]
                raise self._error(
                    token if len(keys) == 1 else key,
                    f"key '{' '.join(keys)}' expected start of object ('{{') or "
                    "assignment ('=')",
                )
            raise self._error(
                token, f"expected: IDENT | STRING | ASSIGN | LBRACE got: {token.kind}"
            )
        name = keys[0]
        here = f"{path}.{name}"
        if token.kind == "ASSIGN":
            if len(keys) > 1:
                raise self._error(token, "nested object expected: LBRACE got: ASSIGN")
            self._take()
            value = self._value(here)
        else:
            self._take()
            value = [self._items("RBRACE", here)]
            self._take()
            for label in reversed(keys[1:]):
                value = [{label: value}]
            self._same_labels(found, name, len(keys) > 1, here)
        self._add(found, name, value, token, here)

    def _same_labels(
        self, found: dict[str, Any], name: str, labelled: bool, path: str
    ) -> None:
        """Refuse blocks of one name of which only some have labels."""
        seen = self._labelled.setdefault((id(found), name), [])
        seen.append(labelled)
        if True in seen and False in seen:
            raise HclError(
                f"At -: {path}[{seen.index(False)}]: map must have string keys"
            )

    def _add(
        self, found: dict[str, Any], name: str, value: Any, token: _Token, path: str
    ) -> None:
        old = found.get(name)
        if isinstance(value, list) and name in found:
            if not isinstance(old, list):
                raise self._error(token, f"{path}: unknown type *ast.ObjectType")
            found[name] = [*cast("list[Any]", old), *cast("list[Any]", value)]
        else:
            found[name] = value

    def _value(self, path: str) -> Any:
        token = self._peek()
        match token.kind:
            case "STRING" | "NUMBER" | "FLOAT" | "BOOL" | "HEREDOC":
                self._take()
                return token.value
            case "LBRACE":
                self._take()
                value = [self._items("RBRACE", path)]
                self._take()
                return value
            case "LBRACK":
                return self._list(path)
            case "EOF":
                return [{}]
            case _:
                raise self._error(
                    token,
                    f"Unknown token: {token.line}:{token.column} {token.kind} "
                    f"{token.text}",
                )

    def _list(self, path: str) -> list[Any]:
        self._take()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(self._peek(), "nested too deeply")
        found: list[Any] = []
        comma = True
        while (token := self._peek()).kind != "RBRACK":
            if not comma:
                raise self._error(
                    token,
                    "error parsing list, expected comma or list end, got: "
                    f"{token.kind}",
                )
            value = self._value(path)
            # Objects in a list are elements, not lists of one.
            found.append(value[0] if token.kind == "LBRACE" else value)
            comma = self._peek().kind == "COMMA"
            if comma:
                self._take()
        self._take()
        self._depth -= 1
        return found


def loads(text: str) -> dict[str, Any]:
    """Return the values of an HCL 1 text; raises ``HclError``."""
    json = text.lstrip().startswith("{")
    return _Parser(_Lexer(text, json).tokens()).document(json)
