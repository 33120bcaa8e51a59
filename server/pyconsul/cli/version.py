"""``pyconsul version``."""

from __future__ import annotations

from pyconsul import CONSUL_VERSION

from .command import Command
from .errors import CommandError
from .output import line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyconsul_client.goflags import FlagSet

# The member protocols of Consul 1.10: spoken without being told, and understood.
_SPOKEN, _LOWEST, _HIGHEST = 2, 2, 3


def _declare(flags: FlagSet) -> None:
    flags.string("format", "pretty", "Output: pretty or json.", placeholder="string")


def _version(flags: FlagSet) -> int:
    match flags.text("format"):
        case "pretty":
            line(f"Consul v{CONSUL_VERSION}")
            line(
                f"Protocol {_SPOKEN} spoken by default, understands {_LOWEST} to "
                f"{_HIGHEST} (agent will automatically use protocol >{_SPOKEN} when "
                "speaking to compatible agents)"
            )
        case "json":
            import json

            rpc = {"Default": _SPOKEN, "Min": _LOWEST, "Max": _HIGHEST}
            told = {"Version": CONSUL_VERSION, "Revision": "", "Prerelease": ""}
            line(json.dumps({**told, "RPC": rpc}, indent=3))
        case other:
            raise CommandError(f"Unknown format: {other}")
    return 0


VERSION = Command(
    "Usage: pyconsul version [options]\n\n"
    "  Prints the release of Consul whose formats this program speaks.",
    _version,
    _declare,
    client=False,
)
