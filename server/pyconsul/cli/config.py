"""``pyconsul config``: writes, reads, lists and deletes config entries.

Entries are read from files as HCL 1 or JSON, in CamelCase or snake_case, and
checked here before they are sent, so that errors name the key.
"""

from __future__ import annotations

import sys
from typing import cast

from .agent_client import AgentClient
from .command import Command
from .errors import CommandError
from .output import go_json, line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyconsul.types.config_entries import ConfigEntry, Field
    from pyconsul_client.goflags import FlagSet

_MAX_FILE = 16 << 20


def _declare_write(flags: FlagSet) -> None:
    flags.boolean("cas", text="Write only if the entry is at -modify-index.")
    flags.integer(
        "modify-index",
        text="Index of the entry's last change, for -cas; 0: there must be none.",
        unsigned=True,
    )


def _write(flags: FlagSet) -> int:
    if len(flags.operands) != 1:
        raise CommandError(
            "Must provide exactly one positional argument to specify the config "
            "entry to write"
        )
    body, entry = _decoded(_loaded(flags.operands[0]))
    name = f"{entry.kind}/{entry.name}"
    query = {"cas": str(flags.number("modify-index"))} if flags.switch("cas") else {}
    failing = f"Error writing config entry {name}"
    answer = AgentClient(flags).put("/v1/config", query, body, failing=failing)
    if answer.body.strip() != b"true":
        raise CommandError(f"Config entry not updated: {name}")
    line(f"Config entry written: {name}")
    return 0


def _loaded(path: str) -> str:
    try:
        if path == "-":
            data = sys.stdin.buffer.read(_MAX_FILE + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(_MAX_FILE + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CommandError(
            f"Failed to load data: Failed to read file: open {path}: {reason}"
        ) from None
    if len(data) > _MAX_FILE:
        raise CommandError(f"Failed to load data: more than {_MAX_FILE} bytes")
    return data.decode("utf-8", "replace")


def _decoded(text: str) -> tuple[bytes, ConfigEntry]:
    """Return the body to send and the entry in it."""
    import msgspec

    from pyconsul.config.hcl import parse_hcl
    from pyconsul.http.config_entries import decode_entry
    from pyconsul.http.decoding import DecodeError
    from pyconsul.types.config_entries import KINDS
    from pyconsul.types.errors import ConsulError

    try:
        body = text.encode()
        if not text.lstrip().startswith("{"):
            given = cast("dict[str, object]", parse_hcl(text, "config entry"))
            kind = given.get("Kind", given.get("kind"))
            fields = KINDS.get(kind, ()) if isinstance(kind, str) else ()
            body = msgspec.json.encode(_collapsed(fields, given))
        return body, decode_entry(body)
    except (DecodeError, ConsulError) as error:
        raise CommandError(
            f"Failed to decode config entry input: {str(error).rstrip()}"
        ) from None


def _collapsed(fields: tuple[Field, ...], given: dict[str, object]) -> object:
    """Undo HCL 1, where every object is a list of objects.

    A list of one object is that object, unless the field is a list.
    """
    by_name = {field.name.lower(): field for field in fields}
    result: dict[str, object] = {}
    for key, value in given.items():
        field = by_name.get(key.lower().replace("_", ""))
        result[key] = _collapsed_value(field, value)
    return result


def _collapsed_value(field: Field | None, value: object) -> object:
    if field is None or field.form != "list":
        value = _only(value)
    if isinstance(value, list):
        return [_collapsed_value(field, item) for item in cast("list[object]", value)]
    if not isinstance(value, dict):
        return value
    held = cast("dict[str, object]", value)
    within = field.of if field is not None and isinstance(field.of, tuple) else ()
    if field is None or field.form != "map":
        return _collapsed(within, held)
    members = {key: _only(member) for key, member in held.items()}
    return {
        key: _collapsed(within, cast("dict[str, object]", member))
        if isinstance(member, dict)
        else member
        for key, member in members.items()
    }


def _only(value: object) -> object:
    """Return the object of a list of one object, anything else as it is."""
    items = cast("list[object]", value) if isinstance(value, list) else []
    return items[0] if len(items) == 1 and isinstance(items[0], dict) else value  # pyright: ignore[reportUnknownVariableType]


def _declare_kind(flags: FlagSet) -> None:
    flags.string("kind", text="Kind of the entries, such as service-defaults.")


def _declare_kind_name(flags: FlagSet) -> None:
    _declare_kind(flags)
    flags.string("name", text="Name of the entry.")


def _kind(flags: FlagSet) -> str:
    if not flags.text("kind"):
        raise CommandError("Must specify the -kind parameter")
    return flags.text("kind")


def _kind_name(flags: FlagSet) -> str:
    kind = _kind(flags)
    if not flags.text("name"):
        raise CommandError("Must specify the -name parameter")
    return f"{kind}/{flags.text('name')}"


def _read(flags: FlagSet) -> int:

    name = _kind_name(flags)
    failing = f"Error reading config entry {name}"
    entry = AgentClient(flags).get(f"/v1/config/{name}", failing=failing).record()
    line(go_json(entry, 4))
    return 0


def _list(flags: FlagSet) -> int:
    kind = _kind(flags)
    failing = f'Error listing config entries for kind "{kind}"'
    found = AgentClient(flags).get(f"/v1/config/{kind}", failing=failing)
    for entry in found.records():
        line(str(entry["Name"]))
    return 0


def _declare_delete(flags: FlagSet) -> None:
    flags.string("filename", text="File with the entry, instead of kind and name.")
    _declare_kind_name(flags)


def _delete(flags: FlagSet) -> int:
    path = flags.text("filename")
    if path and (flags.text("kind") or flags.text("name")):
        raise CommandError("Must specify either -filename or -kind and -name")
    if path:
        _, entry = _decoded(_loaded(path))
        name = f"{entry.kind}/{entry.name}"
    else:
        name = _kind_name(flags)
    failing = f"Error deleting config entry {name}"
    AgentClient(flags).delete(f"/v1/config/{name}", {}, failing=failing)
    line(f"Config entry deleted: {name}")
    return 0


WRITE = Command(
    "Usage: pyconsul config write [options] FILE\n\n"
    "  Writes the config entry in a file (HCL or JSON), or on standard input for -.\n\n"
    "      $ pyconsul config write web-defaults.hcl",
    _write,
    _declare_write,
    server=True,
    namespaced=True,
)
READ = Command(
    "Usage: pyconsul config read [options] -kind KIND -name NAME\n\n"
    "  Prints a config entry as JSON.",
    _read,
    _declare_kind_name,
    server=True,
    namespaced=True,
)
LIST = Command(
    "Usage: pyconsul config list [options] -kind KIND\n\n"
    "  Prints the names of the config entries of a kind.",
    _list,
    _declare_kind,
    server=True,
    namespaced=True,
)
DELETE = Command(
    "Usage: pyconsul config delete [options] -kind KIND -name NAME\n\n"
    "  Deletes a config entry. One that does not exist counts as deleted.\n\n"
    "      $ pyconsul config delete -filename=web-defaults.hcl",
    _delete,
    _declare_delete,
    server=True,
    namespaced=True,
)
