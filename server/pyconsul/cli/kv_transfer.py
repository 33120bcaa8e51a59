"""``pyconsul kv export`` and ``kv import``: trees of keys as JSON."""

from __future__ import annotations

from typing import cast

from .agent_client import AgentClient
from .base64_text import decode
from .command import Command
from .errors import CommandError
from .kv_read import FAILING
from .kv_write import read_data
from .output import go_json, line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyconsul_client.goflags import FlagSet

_FLAGS_END = 1 << 64


def _export(flags: FlagSet) -> int:
    operands = flags.operands
    if len(operands) > 1:
        raise CommandError(f"Too many arguments (expected 1, got {len(operands)})")
    prefix = (operands[0] if operands else "").removeprefix("/")
    answer = AgentClient(flags).get(
        f"/v1/kv/{prefix}", {"recurse": ""}, failing=FAILING, terse=True
    )
    entries = answer.records() if answer.status == 200 else []
    exported = [
        {
            "key": entry["Key"],
            "flags": entry["Flags"],
            "value": entry.get("Value") or "",
        }
        for entry in entries
    ]
    line(go_json(exported, "\t"))
    return 0


def _declare_import(flags: FlagSet) -> None:
    flags.string("prefix", text="Put this and a slash before every key.")


def _import(flags: FlagSet) -> int:
    operands = flags.operands
    if len(operands) > 1:
        raise CommandError(
            f"Error! Too many arguments (expected 1, got {len(operands)})"
        )
    data = read_data(operands[0]) if operands else b""
    if not data:
        raise CommandError("Error! Missing DATA argument")
    entries = _entries(data)
    client = AgentClient(flags)
    for key, number, text in entries:
        try:
            value = decode(text.encode())
        except ValueError as error:
            raise CommandError(
                f"Error base 64 decoding value for key {key}: {error}"
            ) from None
        name = _joined(flags.text("prefix"), key)
        query = {"flags": str(number)} if number else {}
        failing = f"Error! Failed writing data for key {name}"
        if name.startswith("/"):
            raise CommandError(
                f"{failing}: Invalid key. Key must not begin with a '/': {name}"
            )
        client.put(f"/v1/kv/{name}", query, value, failing=failing)
        line(f"Imported: {name}")
    return 0


def _joined(prefix: str, key: str) -> str:
    """Join as paths are: without empty, ``.`` and ``..`` elements.

    Without a prefix the key stays as it is, so that an export can be imported.
    """
    if not prefix:
        return key
    parts: list[str] = []
    for part in f"{prefix}/{key}".split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _entries(data: bytes) -> list[tuple[str, int, str]]:
    """Return key, flags and base64 value of each entry of an export."""
    from pyconsul.config.json_text import loads

    try:
        decoded: object = loads(data.decode("utf-8", "surrogateescape"))
    except ValueError as error:
        raise CommandError(f"Cannot unmarshal data: {error}") from None
    if decoded is None:
        return []
    if not isinstance(decoded, list):
        raise CommandError("Cannot unmarshal data: a list of entries is expected")
    entries: list[tuple[str, int, str]] = []
    for item in cast("list[object]", decoded):
        if not isinstance(item, dict):
            raise CommandError("Cannot unmarshal data: an entry is no object")
        fields = {
            str(name).lower(): value
            for name, value in cast("dict[object, object]", item).items()
        }
        key, number = fields.get("key") or "", fields.get("flags") or 0
        value = fields.get("value") or ""
        if not isinstance(key, str) or not isinstance(value, str):
            raise CommandError("Cannot unmarshal data: key and value are texts")
        if type(number) is not int or not 0 <= number < _FLAGS_END:
            raise CommandError("Cannot unmarshal data: flags is no number of 64 bits")
        entries.append((key, number, value))
    return entries


EXPORT = Command(
    "Usage: pyconsul kv export [options] [PREFIX]\n\n"
    "  Prints all keys that begin with the prefix as JSON, values in base64.",
    _export,
    server=True,
    namespaced=True,
)
IMPORT = Command(
    "Usage: pyconsul kv import [options] DATA\n\n"
    "  Writes the keys of an export. DATA is the JSON, @ and the name of a file, or -\n"
    "  for what comes from standard input.",
    _import,
    _declare_import,
    server=True,
    namespaced=True,
)
