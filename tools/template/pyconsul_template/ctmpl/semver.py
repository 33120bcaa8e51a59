"""Semantic versions, for ``sprig_semver`` and ``sprig_semverCompare``."""

from __future__ import annotations

import re
from typing import Any

from pyconsul_template.ctmpl.errors import GoExecError

_VERSION = re.compile(
    r"v?(\d{1,9})(?:\.(\d{1,9}))?(?:\.(\d{1,9}))?(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?"
)
_Version = tuple[int, int, int, tuple[tuple[int, int, str], ...]]


def _version(text: str) -> _Version:
    match = _VERSION.fullmatch(text.strip())
    if match is None:
        raise GoExecError(f"Invalid Semantic Version: {text!r}")
    # A pre-release comes before its release; numbers before words.
    parts = (
        tuple(
            (0, int(part), "") if part.isdigit() else (1, 0, part)
            for part in match[4].split(".")
        )
        if match[4]
        else ((2, 0, ""),)
    )
    return int(match[1]), int(match[2] or 0), int(match[3] or 0), parts


def semver(text: str) -> dict[str, Any]:
    """Return a version's parts."""
    match = _VERSION.fullmatch(text.strip())
    major, minor, patch, _ = _version(text)
    pre = (match[4] if match else "") or ""
    return {
        "Major": major,
        "Minor": minor,
        "Patch": patch,
        "Prerelease": pre,
        "Original": text,
    }


_CONSTRAINT = re.compile(r"\s*(=|!=|>=|=>|<=|=<|>|<|~>|~|\^)?\s*([^\s,|]+)\s*,?")


def semver_compare(constraint: str, text: str) -> bool:
    """Return whether a version satisfies ``>=1.2, <2 || ^3.1``."""
    version = _version(text)
    return any(
        all(_satisfies(version, m[1] or "=", m[2]) for m in _CONSTRAINT.finditer(part))
        for part in constraint.split("||")
    )


def _satisfies(version: _Version, operator: str, text: str) -> bool:
    digits = text.removeprefix("v").split("-")[0].split(".")
    given = [part for part in digits if part not in ("x", "X", "*")]
    is_open = len(given) < 3
    low = _version(".".join(given or ["0"]) + text[text.find("-") :] * ("-" in text))
    major, minor = low[0], low[1]
    is_pre = version[3] != ((2, 0, ""),)
    if is_pre and low[3] == ((2, 0, ""),):
        return False
    next_major = (major + 1, 0, 0, ())
    next_minor = (major, minor + 1, 0, ())
    match operator:
        case "=" if is_open:
            if not given:
                return True
            return low <= version < (next_minor if len(given) == 2 else next_major)
        case "=":
            return version == low
        case "!=":
            return version != low
        case ">":
            return version > low
        case "<":
            return version < low
        case ">=" | "=>":
            return version >= low
        case "<=" | "=<":
            return version <= low
        case "^":
            next_patch = (0, 0, low[2] + 1, ())
            is_patch = not (major or minor) and len(given) == 3
            top = next_major if major else next_patch if is_patch else next_minor
            return low <= version < top
        case _:
            return low <= version < (next_major if len(given) < 2 else next_minor)
