"""Sprig's whole set: the common functions at hand, the others when called.

What makes keys or random values is refused by name: its result would be another
at each render, so the file would never come to rest.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from pyconsul_template.ctmpl.errors import GoExecError
from pyconsul_template.ctmpl.sprig import TABLE as COMMON

_TEXTS = {
    "hello": ("hello", ""),
    "abbrev": ("abbrev", "as"),
    "abbrevboth": ("abbrev_both", "aas"),
    "substr": ("substring", "aas"),
    "plural": ("plural", "ssa"),
    "initials": ("initials", "s"),
    "untitle": ("untitle", "s"),
    "snakecase": ("snake_case", "s"),
    "kebabcase": ("kebab_case", "s"),
    "camelcase": ("camel_case", "s"),
    "wrap": ("wrap", "as"),
    "wrapWith": ("wrap_with", "ass"),
    "splitn": ("split_n", "sas"),
    "seq": ("sequence", "a*"),
    "b32enc": ("base32_encode", "s"),
    "b32dec": ("base32_decode", "s"),
    "sha512sum": ("sha512", "s"),
    "adler32sum": ("adler32", "s"),
    "regexReplaceAllLiteral": ("regex_literal", "sss"),
    "regexSplit": ("regex_split", "ssa"),
    "regexQuoteMeta": ("regex_quote", "s"),
    **{
        f"{before}{name[0].upper() if before else name[0]}{name[1:]}": (function, "s")
        for before in ("", "os")
        for name, function in (
            *(("base", "path_base"), ("clean", "path_clean"), ("dir", "path_dir")),
            *(("ext", "path_ext"), ("isAbs", "is_absolute")),
        )
    },
    "urlParse": ("url_parse", "s"),
    "urlJoin": ("url_join", "a"),
}
_VALUES = {
    "addf": ("add_floats", "aa*"),
    "add1f": ("add_one_float", "a"),
    "subf": ("subtract_floats", "aa*"),
    "mulf": ("multiply_floats", "aa*"),
    "divf": ("divide_floats", "aa*"),
    "maxf": ("greatest_float", "aa*"),
    "minf": ("least_float", "aa*"),
    "ceil": ("ceiling", "a"),
    "floor": ("floor", "a"),
    "round": ("rounded", "aaa?"),
    "toDecimal": ("octal", "a"),
    "slice": ("slice_of", "aa*"),
    "chunk": ("chunks", "aa"),
    "pluck": ("pluck", "sa*"),
    "mergeOverwrite": ("merge_overwrite", "aa*"),
    "deepCopy": ("deep_copy", "a"),
    "deepEqual": ("deep_equal", "aa"),
    "kindOf": ("kind_of", "a"),
    "kindIs": ("kind_is", "sa"),
    "typeOf": ("type_of", "a"),
    "typeIs": ("type_is", "sa"),
    "typeIsLike": ("type_is_like", "sa"),
    "toRawJson": ("to_raw_json", "a"),
    "env": ("environment", "s"),
    "expandenv": ("expand_environment", "s"),
    "dateInZone": ("date_in_zone", "sas"),
    "htmlDate": ("html_date", "a"),
    "htmlDateInZone": ("html_date_in_zone", "as"),
    "unixEpoch": ("unix_epoch", "a"),
    "dateModify": ("date_modify", "sa"),
    "mustDateModify": ("must_date_modify", "sa"),
    "ago": ("ago", "a"),
    "duration": ("duration", "a"),
    "durationRound": ("duration_rounded", "a"),
    "toDate": ("to_date", "ss"),
    "mustToDate": ("must_to_date", "ss"),
}
_REFUSED = (
    *("randAlphaNum", "randAlpha", "randAscii", "randNumeric", "randBytes"),
    *("randInt", "shuffle", "uuidv4", "genPrivateKey", "derivePassword"),
    *("buildCustomCert", "genCA", "genCAWithKey", "genSelfSignedCert"),
    *("genSelfSignedCertWithKey", "genSignedCert", "genSignedCertWithKey"),
    *("bcrypt", "htpasswd", "encryptAES", "decryptAES", "getHostByName"),
)
_ALIASES = {
    "date_in_zone": "dateInZone",
    "date_modify": "dateModify",
    "must_date_modify": "mustDateModify",
    "trimall": "trimAll",
    "biggest": "max",
    **{
        f"must{name[0].upper()}{name[1:]}": name
        for name in (
            *("append", "push", "prepend", "first", "last", "rest", "initial"),
            *("reverse", "uniq", "without", "has", "slice", "compact", "chunk"),
            *("merge", "mergeOverwrite", "deepCopy", "fromJson", "toJson"),
            *("toPrettyJson", "toRawJson", "regexMatch", "regexFind"),
            *("regexFindAll", "regexReplaceAll", "regexReplaceAllLiteral"),
            "regexSplit",
        )
    },
}
Entry = tuple[Callable[..., Any], str]


def _later(module: str, name: str) -> Callable[..., Any]:
    """Return a function whose module is imported when it is called."""

    def call(*args: Any) -> Any:
        found = importlib.import_module(f"pyconsul_template.ctmpl.{module}")
        return getattr(found, name)(*args)

    return call


def _refused(name: str) -> Callable[..., Any]:
    def refuse(*_args: Any) -> Any:
        raise GoExecError(
            f"sprig_{name} makes keys or random values, or asks the network,"
            " which is not supported"
        )

    return refuse


def _table() -> dict[str, Entry]:
    found: dict[str, Entry] = {
        **COMMON,
        "swapcase": (str.swapcase, "s"),
        **{name: (_refused(name), "a*") for name in _REFUSED},
    }
    for module, entries in (("sprig_texts", _TEXTS), ("sprig_values", _VALUES)):
        for name, (function, kinds) in entries.items():
            found[name] = _later(module, function), kinds
    for alias, name in _ALIASES.items():
        found[alias] = found[name]
    return found


TABLE = _table()
"""By sprig's names: what to call, and the kinds of its arguments."""
