"""Recovery from a lost quorum: ``raft/peers.json``, consumed at start.

The operator stops all servers, puts the same file on each that is left and
starts them; the file's servers are then the cluster (``wire-raft.md`` 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from pyconsul.raft.messages import NONVOTER, VOTER, Configuration, Peer
from pyconsul.types.errors import StartError

PEERS_FILE = "peers.json"
INFO_FILE = "peers.info"
MAX_BYTES = 1 << 20

_HELP = """\
This directory holds the Raft log and snapshots of a server.

When so many servers are gone for good that no leader can be elected, the
cluster can be recovered by hand:

1. Stop every server that is left.
2. Write the file peers.json into this directory of each of them. It must be the
   same everywhere and name every server that is left, for example:

   [
     {"id": "adf4238a-882b-9ddc-4a9d-5b6758e4159e",
      "address": "10.1.0.1:8300", "non_voter": false},
     {"id": "8b6dda82-3103-11e7-93ae-92361f002671",
      "address": "10.1.0.2:8300", "non_voter": false}
   ]

   "id" is the text in the file node-id of the server's data directory, "address"
   its server RPC address. "non_voter" may be left out. As with Raft protocol 2
   the file may be a list of addresses, of servers that were members before:
   ["10.1.0.1:8300", "10.1.0.2:8300"]
3. Start the servers. Each reads the file once and deletes it.

Entries that only the lost servers had are gone; entries that were not yet
committed may become so.
"""


class _Server(msgspec.Struct):
    id: str
    address: str
    non_voter: bool = False


def read_peers_file(path: Path, known: Configuration) -> Configuration | None:
    """Return what ``peers.json`` asks for; ``None`` without a file.

    ``known`` is the membership so far: it has the ids of the servers of which
    only the address is given. Raises ``StartError``.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StartError(f"recovery failed: cannot read {path}: {error}") from error
    if len(data) > MAX_BYTES:
        raise StartError(f"recovery failed: {path} is too large")
    try:
        found = msgspec.json.decode(data, type=list[_Server | str])
    except msgspec.MsgspecError as error:
        raise StartError(
            f"recovery failed: failed to parse peers.json: {error}"
        ) from error
    ids = {peer.address: peer.id for peer in known.servers}
    servers = [
        Peer(id=_id_of(s, ids), address=s)
        if isinstance(s, str)
        else Peer(
            id=s.id, address=s.address, suffrage=NONVOTER if s.non_voter else VOTER
        )
        for s in found
    ]
    configuration = Configuration(servers=tuple(servers))
    if not configuration.voters():
        raise StartError("recovery failed: need at least one voter in peers.json")
    for what in ("id", "address"):
        values = [str(getattr(s, what)) for s in servers]
        if "" in values or len(set(values)) != len(values):
            raise StartError(f"recovery failed: peers.json: empty or repeated {what}")
    return configuration


def _id_of(address: str, ids: Mapping[str, str]) -> str:
    """Return a server's id: a vote of an unknown one could not be counted."""
    if address not in ids:
        raise StartError(
            f"recovery failed: peers.json: no server was known at {address!r}: "
            "give its id, too"
        )
    return ids[address]


def write_peers_info(directory: Path) -> None:
    """Put the help text beside where ``peers.json`` belongs, if missing."""
    path = directory / INFO_FILE
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_text(_HELP)
