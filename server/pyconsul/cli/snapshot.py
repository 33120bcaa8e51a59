"""``snapshot``: the whole state saved, restored and looked into."""

from __future__ import annotations

import contextlib
import os
from typing import cast

from pyconsul.types.errors import os_reason
from pyconsul_client.errors import TransportError

from .agent_client import AgentClient
from .command import Command, exactly
from .errors import CommandError
from .output import line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

    from pyconsul.state.archive import SnapshotMeta
    from pyconsul.state.records_walk import Share, Summary
    from pyconsul_client.goflags import FlagSet

    from .agent_client import Record

_PATH = "/v1/snapshot"
_UNVERIFIED = ".unverified"
_PIECE = 1 << 20
_GAP = 6
_PARTS = ("version", "dc", "node", "status")


def _reason(error: OSError, path: str) -> str:
    """Return Go's words for a file that cannot be opened."""
    return f"open {path}: {(error.strerror or str(error)).lower()}"


# -- save


def _declare_save(flags: FlagSet) -> None:
    flags.string(
        "append-filename",
        text="What to add to the name of the file, of version, dc, node and status.",
    )


def _save(flags: FlagSet) -> int:
    (path,) = exactly(flags, 1, "Missing FILE argument")
    client = AgentClient(flags)
    path = _target(_extended(client, path, flags.text("append-filename")))
    failing = "Error saving snapshot"
    query = {"stale": ""} if flags.switch("stale") else {}
    chunks = client.stream(_PATH, query, failing=failing)
    unverified = path + _UNVERIFIED
    try:
        try:
            handle = os.open(unverified, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        except OSError as error:
            raise CommandError(
                f"Error writing unverified snapshot file: {_reason(error, unverified)}"
            ) from None
        with open(handle, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        index = _verified(unverified).index
        os.rename(unverified, path)
    except TransportError as error:
        raise CommandError(f"{failing}: {error}") from None
    except OSError as error:
        raise CommandError(f"Error writing snapshot file: {os_reason(error)}") from None
    finally:
        chunks.close()
        with contextlib.suppress(OSError):
            os.unlink(unverified)
    line(f"Saved and verified snapshot to index {index}")
    return 0


def _target(path: str) -> str:
    """Return the file to replace; what is no file, as a device, is left alone."""
    if os.path.islink(path):
        path = os.path.realpath(path)
    if os.path.exists(path) and not os.path.isfile(path):
        raise CommandError(f"Error writing snapshot file: {path} is not a regular file")
    return path


def _extended(client: AgentClient, path: str, wanted: str) -> str:
    """Return the path with what is ``wanted`` of the agent in its name."""
    words = [word for word in wanted.split(",") if word]
    if not words:
        return path
    for word in words:
        if word not in _PARTS:
            raise CommandError(f"Error: unknown value for -append-filename: {word}")
    answer = client.get("/v1/agent/self", failing="Error querying agent")
    about = answer.record() or {}
    config = cast("dict[str, str]", about.get("Config") or {})
    stats = cast("dict[str, dict[str, str]]", about.get("Stats") or {})
    leads = stats.get("consul", {}).get("leader") == "true"
    values = {
        "version": config.get("Version", ""),
        "dc": config.get("Datacenter", ""),
        "node": config.get("NodeName", ""),
        "status": "leader" if leads else "follower",
    }
    stem, extension = os.path.splitext(path)
    return "-".join([stem, *(values[word] for word in words)]) + extension


def _verified(path: str) -> SnapshotMeta:
    from pyconsul.state.archive import ArchiveError, read_archive_file

    with open(path, "rb") as file:
        try:
            return read_archive_file(file, None)
        except ArchiveError as error:
            raise CommandError(f"Error verifying snapshot file: {error}") from None


# -- restore


def _restore(flags: FlagSet) -> int:
    (path,) = exactly(flags, 1, "Missing FILE argument")
    client = AgentClient(flags)
    with _opened(path) as file:
        client.upload(_PATH, file, failing="Error restoring snapshot")
    line("Restored snapshot")
    return 0


def _opened(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise CommandError(
            f"Error opening snapshot file: {_reason(error, path)}"
        ) from None


# -- inspect


def _declare_inspect(flags: FlagSet) -> None:
    flags.string("format", "pretty", "How to print: pretty or json.")
    flags.boolean("kvdetails", text="Print which keys take how much.")
    flags.integer("kvdepth", 2, text="How many parts of a key to tell apart.")
    flags.string("kvfilter", text="Print keys that begin with this only.")


def _inspect(flags: FlagSet) -> int:
    (path,) = exactly(flags, 1, "Missing FILE argument")
    from pyconsul.state.records_walk import Summary

    summary = Summary(
        details=flags.switch("kvdetails"),
        depth=flags.number("kvdepth"),
        prefix=flags.text("kvfilter"),
    )
    with _opened(path) as file:
        if os.path.basename(path) == "state.bin":
            meta = _meta_beside(path)
            _add(summary, file)
        else:
            meta = _unpacked(file, summary)
    form = flags.text("format")
    if form == "pretty":
        _print_pretty(meta, summary)
    elif form == "json":
        _print_json(meta, summary)
    else:
        raise CommandError(
            f"Error outputting enhanced snapshot data: Unknown format: {form}"
        )
    return 0


def _unpacked(file: BinaryIO, summary: Summary) -> SnapshotMeta:
    import tempfile

    from pyconsul.state.archive import ArchiveError, read_archive_file

    with tempfile.TemporaryFile() as state:
        try:
            meta = read_archive_file(file, cast("BinaryIO", state))
        except ArchiveError as error:
            raise CommandError(f"Error reading snapshot: {error}") from None
        state.seek(0)
        _add(summary, cast("BinaryIO", state))
    return meta


def _meta_beside(path: str) -> SnapshotMeta:
    import msgspec

    from pyconsul.state.archive import SnapshotMeta

    beside = os.path.join(os.path.dirname(path), "meta.json")
    try:
        with open(beside, "rb") as file:
            return msgspec.json.decode(file.read(_PIECE), type=SnapshotMeta)
    except OSError as error:
        raise CommandError(
            f"Error reading metadata: {_reason(error, beside)}"
        ) from None
    except msgspec.DecodeError as error:
        raise CommandError(f"Error decoding metadata: {error}") from None


def _pieces(state: BinaryIO) -> Iterator[bytes]:
    while piece := state.read(_PIECE):
        yield piece


def _add(summary: Summary, state: BinaryIO) -> None:
    from pyconsul.types.gomsgpack import MsgpackError

    try:
        summary.add_all(_pieces(state))
    except MsgpackError as error:
        raise CommandError(f"Error extracting snapshot data: {error}") from None


# -- decode


def _decode(flags: FlagSet) -> int:
    (path,) = exactly(flags, 1, "Missing FILE argument")
    import tempfile

    from pyconsul.state.archive import ArchiveError, read_archive_file

    with _opened(path) as file:
        if os.path.basename(path) == "state.bin":
            _print_records(file)
            return 0
        with tempfile.TemporaryFile() as state:
            try:
                read_archive_file(file, cast("BinaryIO", state))
            except ArchiveError as error:
                raise CommandError(f"Error reading snapshot: {error}") from None
            state.seek(0)
            _print_records(cast("BinaryIO", state))
    return 0


def _print_records(state: BinaryIO) -> None:
    """Print the header and every record as a line of JSON."""
    import json

    from pyconsul.state.records_walk import plain, records
    from pyconsul.types.gomsgpack import MsgpackError

    def one(name: str, data: object) -> None:
        about = {"Type": name, "Data": data}
        line(json.dumps(about, separators=(",", ":"), ensure_ascii=False))

    try:
        for record in records(_pieces(state), lambda head: one("SnapshotHeader", head)):
            one(record.name, plain(record))
    except MsgpackError as error:
        raise CommandError(f"Error extracting snapshot data: {error}") from None


def _about(meta: SnapshotMeta) -> Record:
    return {
        "ID": meta.id,
        "Size": meta.size,
        "Index": meta.index,
        "Term": meta.term,
        "Version": meta.version,
    }


def _print_pretty(meta: SnapshotMeta, summary: Summary) -> None:
    _columns([(name, str(value)) for name, value in _about(meta).items()])
    line("")
    _shares("Type", summary.types, summary.total)
    if summary.keys:
        line("")
        _shares("Key Name", summary.keys, summary.total_keys)


def _shares(what: str, shares: dict[str, Share], total: int) -> None:
    from pyconsul.state.records_walk import by_size

    rows = [(what, "Count", "Size"), ("----", "----", "----")]
    rows += [
        (share.name, str(share.count), size_text(share.sum))
        for share in by_size(shares)
    ]
    rows += [("----", "----", "----"), ("Total", "", size_text(total))]
    _columns(rows)


def _columns(rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows one blank in, with columns six blanks apart."""
    widths = [max(map(len, column)) + _GAP for column in zip(*rows, strict=True)]
    for row in rows:
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        line(" " + "".join(padded).rstrip())


def size_text(size: int) -> str:
    """Return a number of bytes as ``150B``, ``4.9KB``, ``1.0MB``, ``2.5GB``."""
    for unit, bytes_ in (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
        if size >= bytes_:
            return f"{size / bytes_:.1f}{unit}"
    return f"{size}B"


def _print_json(meta: SnapshotMeta, summary: Summary) -> None:
    import json

    from pyconsul.state.records_walk import by_size

    def listed(shares: dict[str, Share]) -> list[Record] | None:
        return [
            {"Name": share.name, "Sum": share.sum, "Count": share.count}
            for share in by_size(shares)
        ] or None

    value: Record = {
        "Meta": _about(meta),
        "Stats": listed(summary.types),
        "StatsKV": listed(summary.keys),
        "TotalSize": summary.total,
        "TotalSizeKV": summary.total_keys,
    }
    line(json.dumps(value, indent=3, ensure_ascii=False))


SAVE = Command(
    "Usage: pyconsul snapshot save [options] FILE\n\n"
    "  Saves the whole state of the servers in a file: keys, catalog, sessions,\n"
    "  queries, ACLs. What is secret in them is in the file as well. With -stale any\n"
    "  server may answer, even without a leader.",
    _save,
    _declare_save,
    server=True,
)
RESTORE = Command(
    "Usage: pyconsul snapshot restore [options] FILE\n\n"
    "  Replaces the whole state of the servers by what a file has that was saved\n"
    "  before. A damaged file changes nothing.",
    _restore,
    server=True,
)
INSPECT = Command(
    "Usage: pyconsul snapshot inspect [options] FILE\n\n"
    "  Prints what a saved file holds, and how large it is. A state.bin of a server's\n"
    "  snapshots can be given as well.",
    _inspect,
    _declare_inspect,
    client=False,
)
DECODE = Command(
    "Usage: pyconsul snapshot decode [options] FILE\n\n"
    "  Prints every record of a saved file as a line of JSON, secrets as well. A\n"
    "  state.bin of a server's snapshots can be given, too.",
    _decode,
    client=False,
)
