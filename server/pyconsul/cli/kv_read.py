"""``pyconsul kv get``: the command with the start-up budget."""

from __future__ import annotations

from .agent_client import AgentClient
from .command import Command
from .errors import CommandError
from .output import in_columns, line, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyconsul_client.goflags import FlagSet

    from .agent_client import Record

FAILING = "Error querying Consul agent"
_FIELD_WIDTH = 17


def _declare(flags: FlagSet) -> None:
    flags.boolean("base64", text="Print values in base64.")
    flags.boolean("detailed", text="Print all there is to know of a key.")
    flags.boolean("keys", text="Print names only, up to the separator.")
    flags.boolean("recurse", text="Print all keys that begin with the prefix given.")
    flags.string(
        "separator",
        "/",
        "What -keys stops at; with an empty one it prints full names.",
        placeholder="string",
    )


def _get(flags: FlagSet) -> int:
    operands = flags.operands
    many = flags.switch("keys") or flags.switch("recurse")
    if len(operands) > 1:
        raise CommandError(f"Too many arguments (expected 1, got {len(operands)})")
    key = (operands[0] if operands else "").removeprefix("/")
    if not key and not many:
        raise CommandError("Error! Missing KEY argument")
    client = AgentClient(flags)
    if flags.switch("keys"):
        return _names(client, key, flags.text("separator"))
    if flags.switch("recurse"):
        return _tree(client, key, flags)
    return _one(client, key, flags)


def _names(client: AgentClient, prefix: str, separator: str) -> int:
    query = {"keys": "", "separator": separator}
    answer = client.get(f"/v1/kv/{prefix}", query, failing=FAILING, terse=True)
    if answer.status == 200:
        for name in answer.texts():
            line(name)
    return 0


def _tree(client: AgentClient, prefix: str, flags: FlagSet) -> int:
    answer = client.get(
        f"/v1/kv/{prefix}", {"recurse": ""}, failing=FAILING, terse=True
    )
    entries = answer.records() if answer.status == 200 else []
    base64 = flags.switch("base64")
    for at, entry in enumerate(entries):
        if flags.switch("detailed"):
            if at:
                line("")
            _show(entry, base64)
        else:
            name = str(entry["Key"]).encode("utf-8", "surrogateescape")
            write(name + b":" + _value(entry, base64) + b"\n")
    return 0


def _one(client: AgentClient, key: str, flags: FlagSet) -> int:
    base64, detailed = flags.switch("base64"), flags.switch("detailed")
    query = {} if detailed else {"raw": ""}  # raw spares the JSON
    answer = client.get(f"/v1/kv/{key}", query, failing=FAILING, terse=True)
    if answer.status == 404:
        raise CommandError(f"Error! No key exists at: {key}")
    if detailed:
        _show(answer.records()[0], base64)
    elif base64:
        from binascii import b2a_base64

        write(b2a_base64(answer.body))
    else:
        write(answer.body + b"\n")
    return 0


def _show(entry: Record, base64: bool) -> None:
    for name in ("CreateIndex", "Flags", "Key", "LockIndex", "ModifyIndex"):
        line(f"{name:<{_FIELD_WIDTH}}{entry[name]}")
    line(f"{'Session':<{_FIELD_WIDTH}}{entry.get('Session') or '-'}")
    for name in ("Partition", "Namespace"):
        if entry.get(name):
            line(f"{name:<{_FIELD_WIDTH}}{entry[name]}")
    value = _value(entry, base64)
    if any(mark in value for mark in (b"\t", b"\v", b"\f")):
        # Tabs in the value make cells, as everything goes through one table.
        text = value.decode("utf-8", "surrogateescape")
        line(in_columns(f"CreateIndex\t\nValue\t{text}").partition("\n")[2])
        return
    head = b"Value".ljust(_FIELD_WIDTH) if value else b"Value"
    write(head + value + b"\n")


def _value(entry: Record, base64: bool) -> bytes:
    from binascii import a2b_base64

    text = str(entry.get("Value") or "")
    return text.encode() if base64 else a2b_base64(text)


GET = Command(
    "Usage: pyconsul kv get [options] [KEY_OR_PREFIX]\n\n"
    "  Prints the value of a key, followed by a newline. With -recurse or -keys the\n"
    "  operand is a prefix, and all keys that begin with it are printed.\n\n"
    "      $ pyconsul kv get config/db\n"
    "      $ pyconsul kv get -recurse config/",
    _get,
    _declare,
    server=True,
    namespaced=True,
)
