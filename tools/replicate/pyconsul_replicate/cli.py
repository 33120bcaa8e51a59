"""The command ``pyconsul-replicate``."""

from __future__ import annotations

import asyncio
import os
import sys
from importlib import metadata

from pyconsul_client.errors import (
    ClientError,
    FlagError,
    HelpRequested,
    OptionsError,
    SettingsError,
)
from pyconsul_client.tool import common, exits
from pyconsul_client.tool.exits import ToolError
from pyconsul_client.tool.journal import Journal
from pyconsul_client.tool.pidfile import PidFile

from .config import USAGE, Config, load, make_flags
from .runner import serve

NAME = "pyconsul-replicate"


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    asks = arguments[:1] == ["status"]
    arguments = arguments[asks:]
    flags = make_flags()
    try:
        common.refuse_unsupported(arguments)
        flags.parse(arguments)
        if flags.operands:
            raise FlagError(f"unexpected argument: {flags.operands[0]}")
    except HelpRequested:
        print(flags.help(USAGE), end="")
        return exits.OK
    except FlagError as error:
        Journal().error(str(error))
        return exits.BAD_FLAGS
    if flags.switch("version") or flags.switch("v"):
        print(f"{NAME} v{metadata.version('pyconsul-suite')}")
        return exits.OK

    def read() -> Config:
        return load(flags, os.environ)

    try:
        config = read()
        journal = common.make_journal(config.values, NAME)
    except FlagError as error:
        Journal().error(str(error))
        return exits.BAD_FLAGS
    except (SettingsError, OptionsError, ValueError) as error:
        Journal().error(str(error))
        return exits.BAD_CONFIG
    if asks:
        return _show_status(config.status_addr, journal)
    if not config.pairs and not config.once:
        journal.error("no prefix to replicate: give -prefix SRC@DC or a prefix block")
        return exits.BAD_CONFIG
    try:
        with PidFile(config.values.get("pid_file", "")):
            return asyncio.run(serve(read, config, journal))
    except ToolError as error:
        journal.error(str(error))
        return error.status
    except ClientError as error:
        journal.error(str(error))
        return exits.ERROR


def _show_status(address: str, journal: Journal) -> int:
    if not address:
        journal.error("status: -status-addr says where to ask")
        return exits.BAD_CONFIG
    from .overview import fetch

    try:
        print(fetch(address), end="")
    except ToolError as error:
        journal.error(str(error))
        return error.status
    return exits.OK


if __name__ == "__main__":
    sys.exit(main())
