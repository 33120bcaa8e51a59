"""``pyconsul watch``: print once, or run a handler for every change.

Observed: Consul 1.10.11 ``consul watch``: flags, output, exit codes. Different
on purpose: a handler that fails or hangs does not end the watch.
"""

from __future__ import annotations

import json
import sys
import time
from urllib.parse import quote, urlencode

from pyconsul_client.errors import (
    ApiError,
    ClientError,
    FlagError,
    HelpRequested,
    OptionsError,
)
from pyconsul_client.goflags import FlagSet, parse_bool
from pyconsul_client.oneshot import request
from pyconsul_client.options import (
    Options,
    add_client_flags,
    add_server_flags,
    from_flags,
)

from .shape import dumps, shape
from .spec import Spec, make_spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

USAGE = """\
Usage: pyconsul watch [options] [child...]

  Watches for changes in a given data view from Consul. If a child process
  is specified, it will be invoked with the latest results on changes, as
  JSON on its standard input and with their index in CONSUL_INDEX.
  Otherwise, the latest values are dumped to stdout and the watch
  terminates.

  Providing the watch type is required, and other parameters may be
  required or supported depending on the watch type: key, keyprefix,
  services, nodes, service, checks, event.

  A child that fails is reported and the watch goes on."""

DEFAULT_TIMEOUT = 60.0
PARAMETERS = ("key", "prefix", "service", "state", "name", "filter")


def watch_main(argv: list[str]) -> int:
    """Run the command with the words after ``watch``; return the exit status."""
    flags = declared()
    try:
        flags.parse(argv)
    except HelpRequested:
        print(flags.help(USAGE), end="")
        return 0
    except FlagError as error:
        return _fail(f"{error}\n{flags.help(USAGE)}", end="")
    if not flags.text("type"):
        help_text = flags.help(USAGE)
        return _fail(f"Watch type must be specified\n\n{help_text}", end="")
    try:
        spec = _spec(flags)
    except OptionsError as error:
        return _fail(str(error))
    try:
        options = from_flags(flags)
    except OptionsError as error:
        return _fail(f"Error connecting to Consul agent: {error}")
    try:
        _get("/v1/status/leader", options)
        if not flags.operands:
            print(dumps(_first(spec, options), pretty=True))
            return 0
    except ClientError as error:
        return _fail(f"Error querying Consul agent: {error}")
    except KeyboardInterrupt:
        return 0
    return _watch(spec, options, flags)


def declared() -> FlagSet:
    """Return the flags of the command, not yet parsed."""
    flags = FlagSet()
    add_client_flags(flags)
    add_server_flags(flags)
    flags.string("type", text="Specifies the watch type.", placeholder="string")
    flags.string("key", text="Specifies the key to watch. Only for 'key' type.")
    flags.string(
        "prefix", text="Specifies the key prefix to watch. Only for 'keyprefix' type."
    )
    flags.string(
        "service",
        text="Specifies the service to watch. Required for 'service' type, optional "
        "for 'checks' type.",
    )
    flags.strings(
        "tag",
        "Specifies a service tag on which to filter; may be given several times. "
        "Optional for 'service' type.",
    )
    flags.string(
        "passingonly",
        text="Specifies if only hosts passing all checks are displayed, true or "
        "false. Optional for 'service' type.",
    )
    flags.string(
        "state", text="Specifies the states to watch. Optional for 'checks' type."
    )
    flags.string(
        "name", text="Specifies an event name to watch. Only for 'event' type."
    )
    flags.string("filter", text="Expression that selects from the results.")
    flags.boolean("shell", True, "Use a shell to run the command.")
    flags.duration(
        "handler-timeout",
        DEFAULT_TIMEOUT,
        "How long a run of the child may take before it is killed; 0 for no limit. "
        "The default is 1m.",
    )
    return flags


def _spec(flags: FlagSet) -> Spec:
    params: dict[str, str | Sequence[str]] = {}
    for name in PARAMETERS:
        if flags.text(name):
            params[name] = flags.text(name)
    if flags.many("tag"):
        params["tag"] = flags.many("tag")
    if flags.switch("stale"):
        params["stale"] = "true"
    passing = flags.text("passingonly")
    if passing:
        try:
            params["passingonly"] = "true" if parse_bool(passing) else "false"
        except ValueError as error:
            raise OptionsError(f"Failed to parse passingonly flag: {error}") from error
    return make_spec(flags.text("type"), params, flags.text("datacenter"))


def _first(
    spec: Spec, options: Options, sleep: Callable[[float], None] = time.sleep
) -> object:
    """Return the data now; waits out a cluster without a leader."""
    params = list(spec.params)
    if options.stale:
        params.append(("stale", ""))
    target = quote(spec.path, safe="/-._~!$&'()*+,=:@")
    if params:
        target += "?" + urlencode(params, quote_via=quote)
    failures = 0
    while True:
        try:
            body = _get(target, options)
            return shape(spec.type, json.loads(body) if body is not None else None)
        except ValueError as error:
            raise ClientError(f"unexpected answer: {error}") from error
        except ClientError as error:
            if not error.retryable:
                raise
            failures += 1
            # The reference's schedule for watches that error.
            delay = min(5.0 * failures**2, 180.0)
            print(f"Watch errored: {error}, retry in {delay:g}s", file=sys.stderr)
            sleep(delay)


def _get(target: str, options: Options) -> bytes | None:
    status, _, body = request("GET", target, options=options)
    if status == 404 and target.startswith("/v1/kv/"):
        return None
    if status != 200:
        raise ApiError(status, body[:4096].decode(errors="replace").strip())
    return body


def _watch(spec: Spec, options: Options, flags: FlagSet) -> int:
    # Imported here: asyncio and friends cost more than all of the above.
    import anyio

    from pyconsul_client.process import shell_argv

    from .watcher import Handler, run_until_signal

    if flags.switch("shell"):
        words = shell_argv(" ".join(flags.operands))
    else:
        words = flags.operands
    handler = Handler(tuple(words), flags.seconds("handler-timeout"))
    sys.stdout.flush()
    try:
        anyio.run(run_until_signal, spec, handler, options)
    except KeyboardInterrupt:
        pass
    except OptionsError as error:
        return _fail(f"Error connecting to Consul agent: {error}")
    return 0


def _fail(text: str, end: str = "\n") -> int:
    print(text, file=sys.stderr, end=end)
    return 1
