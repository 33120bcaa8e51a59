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
from pyconsul_template.ctmpl.semver import semver, semver_compare
from pyconsul_template.ctmpl.values import (
    Long,
    StringMap,
    Strings,
    bounded,
    go_bytes,
    keys_sorted,
    printed,
    type_name,
)

REPEAT_MAX = 1_000_000


def list_of(value: Any) -> list[Any]:
    """Return a list's elements, none for nil."""
    if isinstance(value, list | tuple):
        return list(cast("Sequence[Any]", value))
    if value is None:
        return []
    raise GoExecError(f"a {type_name(value)} is no list")


def map_of(value: Any) -> dict[str, Any]:
    """Return a map, nothing else."""
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    raise GoExecError(f"a {type_name(value)} is no map")


def text_of(value: Any) -> str:
    """Return a value as it prints, nothing for nil."""
    return "" if value is None else printed(value)


def _strings(value: Any) -> Strings:
    if isinstance(value, list | tuple):
        items = cast("Sequence[Any]", value)
        return Strings(text_of(item) for item in items if item is not None)
    return Strings([] if value is None else [text_of(value)])


def whole(value: Any) -> int:
    """Return a whole number, 0 for what is none."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if abs(value) < 2**63 else 0
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,19}", value):
        return int(value)
    return 0


def real(value: Any) -> float:
    """Return a number, 0 for what is none."""
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
    return {text_of(key): values[number] for number, key in enumerate(keys)}


def _get(found: Any, key: str) -> Any:
    table = map_of(found)
    return table.get(key, "")


def _set(found: Any, key: str, value: Any) -> Any:
    map_of(found)[key] = value
    return found


def _unset(found: Any, key: str) -> Any:
    map_of(found).pop(key, None)
    return found


def _repeat(count: Any, text: str) -> str:
    times = whole(count)
    if not 0 <= times <= REPEAT_MAX or times * len(text) > 64 * REPEAT_MAX:
        raise GoExecError(f"repeat: {times} times is too much")
    return text * times


def _trunc(count: Any, text: str) -> str:
    size = whole(count)
    if size < 0:
        return text[size:] if -size < len(text) else text
    return text[:size]


def _until(stop: Any) -> list[int]:
    return _until_step(0, stop, 1 if whole(stop) >= 0 else -1)


def _until_step(start: Any, stop: Any, step: Any) -> list[int]:
    first, last, by = whole(start), whole(stop), whole(step)
    if by == 0 or (last < first) != (by < 0):
        return []
    found = range(first, last, by)
    if len(found) > shared.REPEAT_MAX:
        raise GoExecError(f"over {shared.REPEAT_MAX} numbers")
    return list(found)


def _uniq(values: Any) -> list[Any]:
    found: list[Any] = []
    for value in list_of(values):
        if value not in found:
            found.append(value)
    return found


def _merge(target: Any, *sources: Any) -> Any:
    found = map_of(target)
    for source in sources:
        for key, value in map_of(source).items():
            old = found.get(key)
            if isinstance(old, dict) and isinstance(value, dict):
                _merge(cast("Any", old), cast("Any", value))
            elif not old:
                found[key] = value
    return found


def _pick(found: Any, *names: str) -> dict[str, Any]:
    return {key: value for key, value in map_of(found).items() if key in names}


def _omit(found: Any, *names: str) -> dict[str, Any]:
    return {key: value for key, value in map_of(found).items() if key not in names}


def _dig(*args: Any) -> Any:
    if len(args) < 3:
        raise GoExecError("dig needs at least three arguments")
    *path, default, found = args
    for name in path:
        table = map_of(found)
        if name not in table:
            return default
        found = table[name]
    return found


def _fail(text: str) -> Any:
    raise GoExecError(text)


def _required(text: str, value: Any) -> Any:
    return _fail(text) if value is None or value == "" else value


def _divided(a: Any, b: Any) -> Long:
    first, second = whole(a), whole(b)
    if not second:
        raise GoExecError("runtime error: integer divide by zero")
    return Long(int(shared.divide(second, first)))


def _remainder(a: Any, b: Any) -> Long:
    return Long(whole(a) - whole(b) * _divided(a, b))


def _total(*values: Any) -> Long:
    return Long(sum(map(whole, values)))


def _product(*values: Any) -> Long:
    found = 1
    for value in values:
        found = (found * whole(value)) % helpers.WORD
    return Long(found - helpers.WORD if found >= helpers.WORD // 2 else found)


def _joined(separator: str, values: Any) -> str:
    return bounded(separator.join(_strings(values)))


def moment_of(value: Any) -> datetime:
    """Return a time, or the one that is so many seconds after 1970."""
    if isinstance(value, datetime):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return datetime.fromtimestamp(value, UTC)
        except (ValueError, OverflowError, OSError) as error:
            raise GoExecError(f"{error}") from None
    raise GoExecError(f"a {type_name(value)} is no time")


def _date(layout: str, moment: Any) -> str:
    return gotime.formatted(moment_of(moment).astimezone(), layout)


def _nindent(spaces: Any, text: str) -> str:
    return "\n" + _indented(spaces, text)


def _indented(spaces: Any, text: str) -> str:
    count = whole(spaces)
    if not 0 <= count <= shared.INDENT_MAX:
        raise GoExecError(f"indent: {count} is not from 0 to {shared.INDENT_MAX}")
    pad = " " * count
    return pad + text.replace("\n", "\n" + pad)


def _first(values: Any) -> Any:
    found = list_of(values)
    return found[0] if found else None


def _last(values: Any) -> Any:
    found = list_of(values)
    return found[-1] if found else None


def _regex_find(pattern: str, text: str) -> str:
    found = regex.compiled(pattern).search(text)
    return found[0] if found else ""


def _regex_find_all(pattern: str, text: str, count: int) -> Strings:
    found = Strings(match[0] for match in regex.compiled(pattern).finditer(text))
    return found if count < 0 else Strings(found[:count])


def _ternary(yes: Any, no: Any, value: bool) -> Any:
    return yes if value else no


def _coalesce(*values: Any) -> Any:
    return next((value for value in values if value), None)


def _has_key(found: Any, key: str) -> bool:
    return key in map_of(found)


def _quote(*values: Any) -> str:
    return " ".join(quoted(text_of(value)) for value in values if value is not None)


def _squote(*values: Any) -> str:
    return " ".join(f"'{text_of(value)}'" for value in values if value is not None)


def _has(needle: Any, values: Any) -> bool:
    return needle in list_of(values)


def _append(values: Any, value: Any) -> list[Any]:
    return [*list_of(values), value]


def _prepend(values: Any, value: Any) -> list[Any]:
    return [value, *list_of(values)]


def _concat(*lists: Any) -> list[Any]:
    return [item for values in lists for item in list_of(values)]


def _without(values: Any, *dropped: Any) -> list[Any]:
    return [value for value in list_of(values) if value not in dropped]


def _keys(*maps: Any) -> Strings:
    return Strings(key for found in maps for key in keys_sorted(map_of(found)))


def _values(*maps: Any) -> list[Any]:
    return [found[key] for found in map(map_of, maps) for key in keys_sorted(found)]


_INDEXED_SPLIT = "_"


def _split_map(separator: str, text: str) -> StringMap:
    parts = text.split(separator) if separator else list(text)
    return StringMap({f"{_INDEXED_SPLIT}{n}": part for n, part in enumerate(parts)})


def _is_empty(value: Any) -> bool:
    return not value


def _all(*values: Any) -> bool:
    return all(values)


def _any(*values: Any) -> bool:
    return any(values)


def _new_list(*values: Any) -> list[Any]:
    return list(values)


def _rest(values: Any) -> list[Any]:
    return list_of(values)[1:]


def _initial(values: Any) -> list[Any]:
    return list_of(values)[:-1]


def _compact(values: Any) -> list[Any]:
    return [value for value in list_of(values) if value]


def _reverse(values: Any) -> list[Any]:
    return list_of(values)[::-1]


def _sort_alpha(values: Any) -> Strings:
    return Strings(sorted(_strings(values)))


def _no_space(text: str) -> str:
    return re.sub(r"\s", "", text)


def _cat(*values: Any) -> str:
    return " ".join(text_of(value) for value in values if value is not None)


def _contains(part: str, text: str) -> bool:
    return part in text


def _has_prefix(part: str, text: str) -> bool:
    return text.startswith(part)


def _has_suffix(part: str, text: str) -> bool:
    return text.endswith(part)


def _split_list(separator: str, text: str) -> Strings:
    return Strings(text.split(separator) if separator else list(text))


def _sha1(text: str) -> str:
    return hashlib.sha1(go_bytes(text), usedforsecurity=False).hexdigest()


def _regex_replace(pattern: str, text: str, replacement: str) -> str:
    return regex.replace_all(pattern, replacement, text)


def _long(value: Any) -> Long:
    return Long(whole(value))


def _add_one(value: Any) -> Long:
    return Long(whole(value) + 1)


def _difference(a: Any, b: Any) -> Long:
    return Long(whole(a) - whole(b))


def _greatest(*values: Any) -> Long:
    return Long(max(map(whole, values)))


def _least(*values: Any) -> Long:
    return Long(min(map(whole, values)))


def _now() -> datetime:
    return datetime.now(UTC)


TABLE: dict[str, tuple[Callable[..., Any], str]] = {
    # Choices
    "default": (_default, "aa?"),
    "ternary": (_ternary, "aab"),
    "coalesce": (_coalesce, "a*"),
    "empty": (_is_empty, "a"),
    "all": (_all, "a*"),
    "any": (_any, "a*"),
    "fail": (_fail, "s"),
    "required": (_required, "sa"),
    # Lists
    "list": (_new_list, "a*"),
    "tuple": (_new_list, "a*"),
    "first": (_first, "a"),
    "last": (_last, "a"),
    "rest": (_rest, "a"),
    "initial": (_initial, "a"),
    "append": (_append, "aa"),
    "push": (_append, "aa"),
    "prepend": (_prepend, "aa"),
    "concat": (_concat, "a*"),
    "uniq": (_uniq, "a"),
    "without": (_without, "aa*"),
    "compact": (_compact, "a"),
    "has": (_has, "aa"),
    "reverse": (_reverse, "a"),
    "sortAlpha": (_sort_alpha, "a"),
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
    "nospace": (_no_space, "s"),
    "cat": (_cat, "a*"),
    "quote": (_quote, "a*"),
    "squote": (_squote, "a*"),
    "upper": (str.upper, "s"),
    "lower": (str.lower, "s"),
    "title": (helpers.to_title, "s"),
    "replace": (helpers.replace_all, "sss"),
    "repeat": (_repeat, "as"),
    "contains": (_contains, "ss"),
    "hasPrefix": (_has_prefix, "ss"),
    "hasSuffix": (_has_suffix, "ss"),
    "split": (_split_map, "ss"),
    "splitList": (_split_list, "ss"),
    "indent": (_indented, "as"),
    "nindent": (_nindent, "as"),
    "toString": (text_of, "a"),
    "b64enc": (shared.base64_encode, "s"),
    "b64dec": (helpers.base64_decode, "s"),
    "sha256sum": (shared.sha256_hex, "s"),
    "sha1sum": (_sha1, "s"),
    "regexMatch": (regex.matches, "ss"),
    "regexFind": (_regex_find, "ss"),
    "regexFindAll": (_regex_find_all, "ssi"),
    "regexReplaceAll": (_regex_replace, "sss"),
    # Numbers
    "int": (whole, "a"),
    "int64": (_long, "a"),
    "float64": (real, "a"),
    "add": (_total, "a*"),
    "add1": (_add_one, "a"),
    "sub": (_difference, "aa"),
    "mul": (_product, "aa*"),
    "div": (_divided, "aa"),
    "mod": (_remainder, "aa"),
    "max": (_greatest, "aa*"),
    "min": (_least, "aa*"),
    "atoi": (whole, "s"),
    # Other formats, versions, time
    "toJson": (encode.to_json, "a"),
    "toPrettyJson": (encode.to_json_pretty, "a"),
    "fromJson": (helpers.parse_json, "s"),
    "semver": (semver, "s"),
    "semverCompare": (semver_compare, "ss"),
    "now": (_now, ""),
    "date": (_date, "sa"),
}
