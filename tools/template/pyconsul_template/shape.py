"""The bytes of a rendered text, and whether they may replace the old ones.

A template whose data vanished of a sudden renders an empty or a very short file:
``on_empty`` and ``min_ratio`` keep the old one then.
"""

from __future__ import annotations

from msgspec import Struct

from pyconsul_template.output import OutputError

UTF_8 = "utf-8"


class RefusedError(OutputError):
    """A text that may not replace the old one, which stays."""

    def __init__(self, text: str, *, is_blank: bool) -> None:
        """``is_blank``: it is refused as there is nothing in it."""
        super().__init__(text)
        self.is_blank = is_blank

    def ends(self, on_empty: str, *, once: bool) -> bool:
        """Whether it ends the run."""
        return on_empty == "fail" if self.is_blank else once


class Shape(Struct, frozen=True):
    """How a text becomes bytes, and which bytes are refused."""

    encoding: str = UTF_8
    crlf: bool = False
    on_empty: str = "render"
    """``keep`` the old file, or ``fail``, for a text of white space alone."""
    min_ratio: float = 0.0
    """The least part of the old file's lines that the new one has to have."""

    def encoded(self, content: bytes) -> bytes:
        """Return the text, given as UTF-8, as the file has it; OutputError."""
        if self.crlf:
            content = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        if self.encoding == UTF_8:
            return content
        try:
            return content.decode().encode(self.encoding)
        except UnicodeError as error:
            text = f"the text cannot be written as {self.encoding}: {error}"
            raise OutputError(text) from error

    def refusal(self, old: bytes | None, new: bytes) -> str:
        """Return why ``new`` may not replace ``old``, empty when it may."""
        if self.on_empty != "render" and not new.strip():
            return "the new text is empty"
        if old is None or not self.min_ratio:
            return ""
        before, after = len(old.splitlines()), len(new.splitlines())
        if after < before * self.min_ratio:
            return f"{after} lines instead of {before} are less than min_ratio"
        return ""


def check_encoding(name: str) -> bool:
    """Whether an encoding of text is known by this name."""
    try:
        "".encode(name)
    except (LookupError, ValueError):
        return False
    return True
