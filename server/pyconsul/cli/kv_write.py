"""``pyconsul kv put`` and ``kv delete``."""

from __future__ import annotations

import sys

from .agent_client import AgentClient
from .command import Command, exactly
from .errors import CommandError
from .output import line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyconsul_client.goflags import FlagSet


def _declare_put(flags: FlagSet) -> None:
    flags.boolean("acquire", text="Acquire the key for -session, if nobody holds it.")
    flags.boolean("base64", text="DATA is in base64.")
    flags.boolean("cas", text="Write only if the key is still at -modify-index.")
    flags.integer("flags", text="Number to keep with the key.", unsigned=True)
    flags.integer(
        "modify-index",
        text="Index for -cas; 0 means that there is no such key.",
        unsigned=True,
    )
    flags.boolean("release", text="Release the key, which -session holds.")
    flags.string("session", text="Session that acquires or releases the key.")


def _put(flags: FlagSet) -> int:
    operands = flags.operands
    if len(operands) > 2:
        raise CommandError(
            f"Error! Too many arguments (expected 1 or 2, got {len(operands)})"
        )
    if not operands or not operands[0]:
        raise CommandError("Error! Missing KEY argument")
    key = operands[0]
    value = _data(operands[1] if len(operands) == 2 else "", flags.switch("base64"))
    acquire, release = flags.switch("acquire"), flags.switch("release")
    if acquire and release:
        raise CommandError("Error! Cannot specify both -acquire and -release")
    session = flags.text("session")
    if (acquire or release) and not session:
        raise CommandError(
            "Error! Missing -session (required with -acquire and -release)"
        )
    if key.startswith("/"):
        raise CommandError(
            "Error! Failed writing data: Invalid key. "
            f"Key must not begin with a '/': {key}"
        )
    query: dict[str, str] = {}
    if flags.number("flags"):
        query["flags"] = str(flags.number("flags"))
    index = flags.number("modify-index")
    if flags.switch("cas"):
        query["cas"] = str(index)
        done = f"Success! Data written to: {key}"
        refused = f"Did not write to {key}: CAS failed"
        if not index:
            refused = (
                f"Did not write to {key}: CAS performed with index=0 "
                "and key already exists."
            )
    elif acquire:
        query["acquire"] = session
        done, refused = f"Success! Lock acquired on: {key}", "Did not acquire lock"
    elif release:
        query["release"] = session
        done, refused = f"Success! Lock released on: {key}", "Did not release lock"
    else:
        done = f"Success! Data written to: {key}"
        refused = f"Failed writing data: {key} was not written"
    client = AgentClient(flags)
    failing = "Error! Failed writing data"
    answer = client.put(f"/v1/kv/{key}", query, value, failing=failing)
    if answer.body.strip() != b"true":
        raise CommandError(f"Error! {refused}")
    line(done)
    return 0


def read_data(operand: str) -> bytes:
    """Return what an operand stands for: ``@file``, ``-`` for stdin, or itself."""
    try:
        if operand.startswith("@"):
            with open(operand[1:], "rb") as file:
                return file.read()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CommandError(
            f"Error! Failed to read file: open {operand[1:]}: {reason}"
        ) from None
    if operand == "-":
        return sys.stdin.buffer.read()
    return operand.encode("utf-8", "surrogateescape")


def _data(operand: str, base64: bool) -> bytes:
    data = read_data(operand)
    if not base64:
        return data
    from .base64_text import decode

    try:
        return decode(data)
    except ValueError as error:
        raise CommandError(f"Error! Cannot base 64 decode data: {error}") from None


def _declare_delete(flags: FlagSet) -> None:
    flags.boolean("cas", text="Delete only if the key is still at -modify-index.")
    flags.integer("modify-index", text="Index for -cas, above 0.", unsigned=True)
    flags.boolean("recurse", text="Delete all keys that begin with the prefix given.")


def _delete(flags: FlagSet) -> int:
    operands = flags.operands
    recurse, cas = flags.switch("recurse"), flags.switch("cas")
    index = flags.number("modify-index")
    if not operands and recurse:
        operands = [""]
    flags.operands = operands
    (key,) = exactly(flags, 1, "Error! Missing KEY argument")
    key = key.removeprefix("/")
    if not key and not recurse:
        raise CommandError("Error! Missing KEY argument")
    if cas and recurse:
        raise CommandError("Cannot specify both -cas and -recurse!")
    if cas and not index:
        raise CommandError(
            "Cannot delete a key that does not exist. "
            "Provide a -modify-index greater than than 0."
        )
    if index and not cas:
        raise CommandError("Cannot specify -modify-index without -cas!")
    query = {"recurse": ""} if recurse else {"cas": str(index)} if cas else {}
    failing = f"Error! Did not delete {'prefix' if recurse else 'key'} {key}"
    answer = AgentClient(flags).delete(f"/v1/kv/{key}", query, failing=failing)
    if answer.body.strip() != b"true":
        raise CommandError(f"{failing}: CAS failed")
    what = "keys with prefix" if recurse else "key"
    line(f"Success! Deleted {what}: {key}")
    return 0


PUT = Command(
    "Usage: pyconsul kv put [options] KEY [DATA]\n\n"
    "  Writes a key. DATA is the value, @ and the name of a file, or - for what comes\n"
    "  from standard input; without it the value is empty.\n\n"
    "      $ pyconsul kv put config/db/port 5432\n"
    "      $ pyconsul kv put -cas -modify-index=123 config/db/port 5433",
    _put,
    _declare_put,
    server=True,
    namespaced=True,
)
DELETE = Command(
    "Usage: pyconsul kv delete [options] KEY_OR_PREFIX\n\n"
    "  Deletes a key, or with -recurse all keys that begin with the prefix. It is no\n"
    "  error if there is none.",
    _delete,
    _declare_delete,
    server=True,
    namespaced=True,
)
