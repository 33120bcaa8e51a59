"""``pyconsul services register`` and ``services deregister``.

Files are read as the agent reads its configuration: JSON or HCL with ``service``
or ``services``, where only the services count.
"""

from __future__ import annotations

from typing import cast

from .agent_client import AgentClient
from .command import Command
from .errors import CommandError
from .output import line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyconsul.config.definitions import ServiceDefinition
    from pyconsul_client.goflags import FlagSet

    from .agent_client import Record


def _declare_register(flags: FlagSet) -> None:
    flags.string("address", text="Address of the service, if not that of the node.")
    flags.string("id", text="ID, if not the name.")
    flags.string("kind", text="Kind, such as connect-proxy.")
    flags.pairs("meta", "Metadata; repeatable.")
    flags.string("name", text="Name of the service.")
    flags.integer("port", text="Port of the service.")
    flags.string("socket", text="Unix socket of the service.", placeholder="path")
    flags.strings("tag", "Tag; repeatable.")
    flags.pairs(
        "tagged-address", "Address by another name, NAME=ADDRESS[:PORT]; repeatable."
    )


def _register(flags: FlagSet) -> int:
    given, files = bool(flags.text("name")), flags.operands
    if files and (given or flags.text("id")):
        raise CommandError("Service registration requires arguments or -id, not both.")
    if not given and not files:
        raise CommandError(
            "Service registration requires at least one argument or flags."
        )
    import msgspec

    bodies = (
        [(flags.text("name"), msgspec.json.encode(_from_flags(flags)))]
        if given
        else [(one.name, msgspec.json.encode(one)) for one in _from_files(files)]
    )
    client = AgentClient(flags)
    for name, body in bodies:
        failing = f'Error registering service "{name}"'
        client.put("/v1/agent/service/register", {}, body, failing=failing)
        line(f"Registered service: {name}")
    return 0


def _from_flags(flags: FlagSet) -> Record:
    """Return the body of a registration."""
    body: Record = {
        "Name": flags.text("name"),
        "ID": flags.text("id"),
        "Kind": flags.text("kind"),
        "Address": flags.text("address"),
        "Port": flags.number("port"),
        "SocketPath": flags.text("socket"),
        "Tags": flags.many("tag"),
        "Meta": flags.mapping("meta"),
        "TaggedAddresses": {
            name: _tagged_address(name, address)
            for name, address in flags.mapping("tagged-address").items()
        },
    }
    return {name: value for name, value in body.items() if value}


def _tagged_address(name: str, text: str) -> Record:
    """Read ``ADDRESS[:PORT]``; an IPv6 address with a port is in brackets."""
    address, colon, port = text.rpartition(":")
    if not colon or (":" in address and not address.endswith("]")):
        return {"Address": text.strip("[]"), "Port": 0}
    if not port.isdecimal() or int(port) > 65535:
        raise CommandError(f'Error! Invalid port "{port}" of tagged address "{name}"')
    return {"Address": address.strip("[]"), "Port": int(port)}


def _from_files(files: list[str]) -> list[ServiceDefinition]:
    from pyconsul.config.definitions import refuse_problems, service_from_config
    from pyconsul.config.sources import read_sources
    from pyconsul.types.errors import ConsulError

    found: list[ServiceDefinition] = []
    problems: list[str] = []
    try:
        for source in read_sources(files, "", _warn):
            single = source.get("service")
            listed: object = source.get("services") or []
            found += [
                service_from_config(raw, problems)
                for raw in (single, *cast("list[Record]", listed))
                if raw is not None
            ]
        refuse_problems(problems)
    except ConsulError as error:
        raise CommandError(f"Error: {error}") from None
    return found


def _warn(text: str) -> None:
    import sys

    sys.stderr.write(text + "\n")


def _declare_deregister(flags: FlagSet) -> None:
    flags.string("id", text="ID of the service.")


def _deregister(flags: FlagSet) -> int:
    identity, files = flags.text("id"), flags.operands
    if files and identity:
        raise CommandError(
            "Service deregistration requires arguments or -id, not both."
        )
    if not files and not identity:
        raise CommandError(
            "Service deregistration requires at least one argument or -id."
        )
    found = [identity] if identity else [s.id or s.name for s in _from_files(files)]
    client = AgentClient(flags)
    for one in found:
        failing = f'Error deregistering service "{one}"'
        path = f"/v1/agent/service/deregister/{one}"
        # Absent is as good as removed, for scripts that clean up.
        client.put(path, {}, failing=failing, absent_ok=True)
        line(f"Deregistered service: {one}")
    return 0


REGISTER = Command(
    "Usage: pyconsul services register [options] [FILE...]\n\n"
    "  Adds services to the agent: those in the files (JSON or HCL, as in the agent's\n"
    "  configuration), or the one that the flags describe.\n\n"
    "      $ pyconsul services register web.hcl\n"
    "      $ pyconsul services register -name=web -port=8080 -tag=v2",
    _register,
    _declare_register,
    server=True,
    namespaced=True,
)
DEREGISTER = Command(
    "Usage: pyconsul services deregister [options] [FILE...]\n\n"
    "  Removes services from the agent: those in the files, or the one with -id.",
    _deregister,
    _declare_deregister,
    server=True,
    namespaced=True,
)
