"""The common functions of sprig, called ``sprig_<name>``; others are unknown.

Source: sprig's documentation. The value worked on is the last argument.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from pyconsul_template import helpers as shared
from pyconsul_template.ctmpl import encode, gotime, helpers, regex
from pyconsul_template.ctmpl.errors import GoExecError
from pyconsul_template.ctmpl.printf import quoted
from pyconsul_template.ctmpl.values import (
    Long,
    StringMap,
    Strings,
    bounded,
    keys_sorted,
    printed,
    type_name,
)

REPEAT_MAX = 1_000_000


def _list(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return list(cast("Sequence[Any]", value))
    if value is None:
        return []
    raise GoExecError(f"a {type_name(value)} is no list")


def _map(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    raise GoExecError(f"a {type_name(value)} is no map")


def _text(value: Any) -> str:
    return "" if value is None else printed(value)


def _strings(value: Any) -> Strings:
    if isinstance(value, list | tuple):
        items = cast("Sequence[Any]", value)
        return Strings(_text(item) for item in items if item is not None)
    return Strings([] if value is None else [_text(value)])


def _whole(value: Any) -> int:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if abs(value) < 2**63 else 0
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,19}", value):
        return int(value)
    return 0


def _real(value: Any) -> float:
    if isinstance(value, str):
        try:
            return helpers.parse_float(value)
        except GoExecError:
            return 0.0
    return float(value) if isinstance(value, int | float) else 0.0


def _default(default: Any, value: Any = None) -> Any:
    return value or default


def _dict(*pairs: Any) -> dict[str, Any]:
    keys, values = pairs[::2], [*pairs[1::2], ""]
    return {_text(key): values[number] for number, key in enumerate(keys)}


def _get(found: Any, key: str) -> Any:
    table = _map(found)
    return table.get(key, "")


def _set(found: Any, key: str, value: Any) -> Any:
    _map(found)[key] = value
    return found


def _unset(found: Any, key: str) -> Any:
    _map(found).pop(key, None)
    return found


def _repeat(count: Any, text: str) -> str:
    times = _whole(count)
    if not 0 <= times <= REPEAT_MAX or times * len(text) > 64 * REPEAT_MAX:
        raise GoExecError(f"repeat: {times} times is too much")
    return text * times


def _trunc(count: Any, text: str) -> str:
    size = _whole(count)
    if size < 0:
        return text[size:] if -size < len(text) else text
    return text[:size]


def _until(stop: Any) -> list[int]:
    return _until_step(0, stop, 1 if _whole(stop) >= 0 else -1)


def _until_step(start: Any, stop: Any, step: Any) -> list[int]:
    first, last, by = _whole(start), _whole(stop), _whole(step)
    if by == 0 or (last < first) != (by < 0):
        return []
    found = range(first, last, by)
    if len(found) > shared.REPEAT_MAX:
        raise GoExecError(f"over {shared.REPEAT_MAX} numbers")
    return list(found)


def _uniq(values: Any) -> list[Any]:
    found: list[Any] = []
    for value in _list(values):
        if value not in found:
            found.append(value)
    return found


def _substr(start: Any, end: Any, text: str) -> str:
    first, last = _whole(start), _whole(end)
    if first < 0:
        return text[: max(last, 0)]
    if last < 0 or last > len(text):
        return text[first:]
    return text[first:last]


def _merge(target: Any, *sources: Any) -> Any:
    found = _map(target)
    for source in sources:
        for key, value in _map(source).items():
            old = found.get(key)
            if isinstance(old, dict) and isinstance(value, dict):
                _merge(cast("Any", old), cast("Any", value))
            elif not old:
                found[key] = value
    return found


def _pick(found: Any, *names: str) -> dict[str, Any]:
    return {key: value for key, value in _map(found).items() if key in names}


def _omit(found: Any, *names: str) -> dict[str, Any]:
    return {key: value for key, value in _map(found).items() if key not in names}


def _dig(*args: Any) -> Any:
    if len(args) < 3:
        raise GoExecError("dig needs at least three arguments")
    *path, default, found = args
    for name in path:
        table = _map(found)
        if name not in table:
            return default
        found = table[name]
    return found


def _fail(text: str) -> Any:
    raise GoExecError(text)


def _required(text: str, value: Any) -> Any:
    return _fail(text) if value is None or value == "" else value


def _divided(a: Any, b: Any) -> Long:
    first, second = _whole(a), _whole(b)
    if not second:
        raise GoExecError("runtime error: integer divide by zero")
    return Long(int(shared.divide(second, first)))


def _remainder(a: Any, b: Any) -> Long:
    return Long(_whole(a) - _whole(b) * _divided(a, b))


def _total(*values: Any) -> Long:
    return Long(sum(map(_whole, values)))


def _product(*values: Any) -> Long:
    found = 1
    for value in values:
        found = (found * _whole(value)) % helpers.WORD
    return Long(found - helpers.WORD if found >= helpers.WORD // 2 else found)


def _joined(separator: str, values: Any) -> str:
    return bounded(separator.join(_strings(values)))


def _date(layout: str, moment: Any) -> str:
    if isinstance(moment, int | float):
        moment = datetime.fromtimestamp(moment, UTC)
    if not isinstance(moment, datetime):
        raise GoExecError(f"a {type_name(moment)} is no time")
    return gotime.formatted(moment, layout)


def _nindent(spaces: Any, text: str) -> str:
    return "\n" + _indented(spaces, text)


def _indented(spaces: Any, text: str) -> str:
    count = _whole(spaces)
    if not 0 <= count <= shared.INDENT_MAX:
        raise GoExecError(f"indent: {count} is not from 0 to {shared.INDENT_MAX}")
    pad = " " * count
    return pad + text.replace("\n", "\n" + pad)


def _first(values: Any) -> Any:
    found = _list(values)
    return found[0] if found else None


def _last(values: Any) -> Any:
    found = _list(values)
    return found[-1] if found else None


def _regex_find(pattern: str, text: str) -> str:
    found = regex.compiled(pattern).search(text)
    return found[0] if found else ""


def _regex_find_all(pattern: str, text: str, count: int) -> Strings:
    found = Strings(match[0] for match in regex.compiled(pattern).finditer(text))
    return found if count < 0 else Strings(found[:count])


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


def _semver(text: str) -> dict[str, Any]:
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


def _semver_compare(constraint: str, text: str) -> bool:
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
            top = next_major if major else next_minor if minor else next_minor
            return low <= version < top
        case _:
            return low <= version < (next_major if len(given) < 2 else next_minor)


def _ternary(yes: Any, no: Any, value: bool) -> Any:
    return yes if value else no


def _coalesce(*values: Any) -> Any:
    return next((value for value in values if value), None)


def _has_key(found: Any, key: str) -> bool:
    return key in _map(found)


def _quote(*values: Any) -> str:
    return " ".join(quoted(_text(value)) for value in values if value is not None)


def _squote(*values: Any) -> str:
    return " ".join(f"'{_text(value)}'" for value in values if value is not None)


def _has(needle: Any, values: Any) -> bool:
    return needle in _list(values)


def _append(values: Any, value: Any) -> list[Any]:
    return [*_list(values), value]


def _prepend(values: Any, value: Any) -> list[Any]:
    return [value, *_list(values)]


def _concat(*lists: Any) -> list[Any]:
    return [item for values in lists for item in _list(values)]


def _without(values: Any, *dropped: Any) -> list[Any]:
    return [value for value in _list(values) if value not in dropped]


def _keys(*maps: Any) -> Strings:
    return Strings(key for found in maps for key in keys_sorted(_map(found)))


def _values(*maps: Any) -> list[Any]:
    return [found[key] for found in map(_map, maps) for key in keys_sorted(found)]


def _plural(one: str, many: str, count: Any) -> str:
    return one if _whole(count) == 1 else many


_INDEXED_SPLIT = "_"


def _split_map(separator: str, text: str) -> StringMap:
    parts = text.split(separator) if separator else list(text)
    return StringMap({f"{_INDEXED_SPLIT}{n}": part for n, part in enumerate(parts)})


TABLE: dict[str, tuple[Callable[..., Any], str]] = {
    # Choices
    "default": (_default, "aa?"),
    "ternary": (_ternary, "aab"),
    "coalesce": (_coalesce, "a*"),
    "empty": (lambda value: not value, "a"),
    "all": (lambda *values: all(values), "a*"),
    "any": (lambda *values: any(values), "a*"),
    "fail": (_fail, "s"),
    "required": (_required, "sa"),
    # Lists
    "list": (lambda *values: list(values), "a*"),
    "tuple": (lambda *values: list(values), "a*"),
    "first": (_first, "a"),
    "last": (_last, "a"),
    "rest": (lambda values: _list(values)[1:], "a"),
    "initial": (lambda values: _list(values)[:-1], "a"),
    "append": (_append, "aa"),
    "push": (_append, "aa"),
    "prepend": (_prepend, "aa"),
    "concat": (_concat, "a*"),
    "uniq": (_uniq, "a"),
    "without": (_without, "aa*"),
    "compact": (lambda values: [v for v in _list(values) if v], "a"),
    "has": (_has, "aa"),
    "reverse": (lambda values: _list(values)[::-1], "a"),
    "sortAlpha": (lambda values: Strings(sorted(_strings(values))), "a"),
    "until": (_until, "a"),
    "untilStep": (_until_step, "aaa"),
    "join": (_joined, "sa"),
    "toStrings": (_strings, "a"),
    # Maps
    "dict": (_dict, "a*"),
    "get": (_get, "as"),
    "set": (_set, "asa"),
    "unset": (_unset, "as"),
    "hasKey": (_has_key, "as"),
    "keys": (_keys, "a*"),
    "values": (_values, "a*"),
    "merge": (_merge, "aa*"),
    "pick": (_pick, "as*"),
    "omit": (_omit, "as*"),
    "dig": (_dig, "a*"),
    # Texts
    "trim": (str.strip, "s"),
    "trimAll": (shared.trim, "ss"),
    "trimPrefix": (shared.trim_prefix, "ss"),
    "trimSuffix": (shared.trim_suffix, "ss"),
    "trunc": (_trunc, "as"),
    "substr": (_substr, "aas"),
    "nospace": (lambda text: re.sub(r"\s", "", text), "s"),
    "cat": (lambda *values: " ".join(_text(v) for v in values if v is not None), "a*"),
    "quote": (_quote, "a*"),
    "squote": (_squote, "a*"),
    "upper": (str.upper, "s"),
    "lower": (str.lower, "s"),
    "title": (helpers.to_title, "s"),
    "replace": (helpers.replace_all, "sss"),
    "repeat": (_repeat, "as"),
    "contains": (lambda part, text: part in text, "ss"),
    "hasPrefix": (lambda part, text: text.startswith(part), "ss"),
    "hasSuffix": (lambda part, text: text.endswith(part), "ss"),
    "split": (_split_map, "ss"),
    "splitList": (
        lambda sep, text: Strings(text.split(sep) if sep else list(text)),
        "ss",
    ),
    "indent": (_indented, "as"),
    "nindent": (_nindent, "as"),
    "plural": (_plural, "ssa"),
    "toString": (_text, "a"),
    "b64enc": (shared.base64_encode, "s"),
    "b64dec": (helpers.base64_decode, "s"),
    "sha256sum": (shared.sha256_hex, "s"),
    "sha1sum": (
        lambda text: hashlib.sha1(
            text.encode("utf-8", "surrogateescape"), usedforsecurity=False
        ).hexdigest(),
        "s",
    ),
    "regexMatch": (regex.matches, "ss"),
    "regexFind": (_regex_find, "ss"),
    "regexFindAll": (_regex_find_all, "ssi"),
    "regexReplaceAll": (lambda p, text, new: regex.replace_all(p, new, text), "sss"),
    # Numbers
    "int": (_whole, "a"),
    "int64": (lambda value: Long(_whole(value)), "a"),
    "float64": (_real, "a"),
    "add": (_total, "a*"),
    "add1": (lambda value: Long(_whole(value) + 1), "a"),
    "sub": (lambda a, b: Long(_whole(a) - _whole(b)), "aa"),
    "mul": (_product, "aa*"),
    "div": (_divided, "aa"),
    "mod": (_remainder, "aa"),
    "max": (lambda *values: Long(max(map(_whole, values))), "aa*"),
    "min": (lambda *values: Long(min(map(_whole, values))), "aa*"),
    "atoi": (_whole, "s"),
    # Other formats, versions, time
    "toJson": (encode.to_json, "a"),
    "toPrettyJson": (lambda value: encode.to_json(value, indent="  "), "a"),
    "fromJson": (helpers.parse_json, "s"),
    "semver": (_semver, "s"),
    "semverCompare": (_semver_compare, "ss"),
    "now": (lambda: datetime.now(UTC), ""),
    "date": (_date, "sa"),
}
