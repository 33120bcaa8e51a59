"""``envconsul``: the command line."""

from __future__ import annotations

import os
import sys

from pyconsul_client.errors import FlagError, HelpRequested
from pyconsul_client.tool import exits
from pyconsul_client.tool.exits import ToolError
from pyconsul_client.tool.journal import Journal

from .config import CommandLine, help_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .config import Config
    from .runner import Runner


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with ``argv`` (``sys.argv``); return the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    asks = words[:1] == ["status"]
    journal = Journal()
    try:
        line = CommandLine(words[1:] if asks else words)
        if asks and line.flags.operands:
            raise FlagError(f"unexpected argument: {line.flags.operands[0]}")
    except HelpRequested:
        print(help_text(), end="")
        return exits.OK
    except FlagError as error:
        journal.error(str(error))
        return exits.BAD_FLAGS
    if line.flags.switch("version") or line.flags.switch("v"):
        from importlib.metadata import version

        print(f"envconsul (pyconsul) {version('pyconsul-suite')}")
        return exits.OK
    try:
        if asks:
            from .overview import fetch

            print(fetch(line.status_address(dict(os.environ))), end="")
            return exits.OK
        config = line.config(dict(os.environ))
        journal = config.journal
        return _run(line, config)
    except KeyboardInterrupt:
        return exits.STOPPED
    except ToolError as error:
        journal.error(str(error))
        return error.status


def _run(line: CommandLine, config: Config) -> int:
    from .runner import Runner

    runner = Runner(line, config)
    if line.diff:
        from .output import difference

        text = difference(*runner.before_and_after())
        sys.stdout.buffer.write(os.fsencode(text))
        sys.stdout.flush()
        return exits.OK
    if line.format:
        return _print(runner, line)
    if line.replace:
        runner.become()
    return runner.run()


def _print(runner: Runner, line: CommandLine) -> int:
    from .output import render, write_private

    data = render(runner.printed(), line.format, runner.config.journal.warn)
    if not line.out:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return exits.OK
    try:
        write_private(line.out, data)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ToolError(exits.FAILED, f"{line.out}: {reason}") from error
    return exits.OK


if __name__ == "__main__":
    sys.exit(main())
