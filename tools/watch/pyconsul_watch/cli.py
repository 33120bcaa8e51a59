"""``pyconsul watch``: print once, or handle every change.

Observed: Consul 1.10.11 ``consul watch``: flags, output, exit codes. Different
on purpose: a handler that fails or hangs does not end the watch, unless that
is asked for.
"""

from __future__ import annotations

import json
import sys
import time
from urllib.parse import quote, urlencode

from pyconsul_client.errors import (
    ApiError,
    ClientError,
    OptionsError,
    SettingsError,
)
from pyconsul_client.goflags import FlagSet, parse_bool
from pyconsul_client.oneshot import request
from pyconsul_client.options import Options, from_flags

from .flags import PARAMETERS, check, declared, output_of
from .output import render
from .shape import shape
from .spec import Spec, make_spec
from .words import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from .plans import WatchPlan

USAGE = """\
Usage: pyconsul watch [options] [child...]

  Watches for changes in a given data view from Consul. If a child process
  is specified, it will be invoked with the latest results on changes, as
  JSON on its standard input and with their index in CONSUL_INDEX.
  Otherwise, the latest values are dumped to stdout and the watch
  terminates.

  Providing the watch type is required, and other parameters may be
  required or supported depending on the watch type: key, keyprefix,
  services, nodes, service, checks, event, query. With -file the watches and
  their handlers are those of files instead.

  A child that fails with the first answer ends the watch; one that fails
  later is reported and the watch goes on, see -on-error."""

POST_TIMEOUT = 10.0
"""The reference's default for HTTP handlers."""


def watch_main(argv: list[str]) -> int:
    """Run the command with the words after ``watch``; return the exit status."""
    flags = declared()
    over = read(flags, argv, USAGE)
    if over is not None:
        return over
    type = flags.text("type") or ("query" if flags.text("query") else "")
    if not type and not flags.many("file"):
        help_text = flags.help(USAGE)
        return _fail(f"Watch type must be specified\n\n{help_text}", end="")
    try:
        check(flags)
        if flags.many("file"):
            return _several(flags)
        params = _params(flags)
        spec = make_spec(type, params, flags.text("datacenter"), queries=True)
    except ClientError as error:
        return _fail(str(error))
    return _one(flags, spec, params)


def _one(flags: FlagSet, spec: Spec, params: dict[str, str | Sequence[str]]) -> int:
    try:
        options = from_flags(flags)
    except OptionsError as error:
        return _fail(f"Error connecting to Consul agent: {error}")
    handled = flags.operands or flags.text("http-handler")
    try:
        _get("/v1/status/leader", options)
        output = output_of(flags)
        if not handled and output != "jsonl":
            print(render(spec.type, _first(spec, options), output))
            return 0
    except ClientError as error:
        return _fail(f"Error querying Consul agent: {error}")
    except KeyboardInterrupt:
        return 0
    return _watch(flags, options, [_plan(flags, spec, params, options.token)])


def _several(flags: FlagSet) -> int:
    import signal

    # One that comes while we start is kept until it can be handled.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        return _start_several(flags)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_several(flags: FlagSet) -> int:
    plans = _from_files(flags)
    try:
        options = from_flags(flags)
        _get("/v1/status/leader", options)
    except OptionsError as error:
        return _fail(f"Error connecting to Consul agent: {error}")
    except ClientError as error:
        return _fail(f"Error querying Consul agent: {error}")
    except KeyboardInterrupt:
        return 0
    return _watch(flags, options, plans, reload=lambda: _from_files(flags))


def _params(flags: FlagSet) -> dict[str, str | Sequence[str]]:
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
    return params


def _plan(flags: FlagSet, spec: Spec, params: dict[str, Any], token: str) -> WatchPlan:
    from pyconsul_client.process import shell_argv

    from .command import falls_apart
    from .plans import HttpHandler, WatchPlan

    argv, http = tuple(flags.operands), None
    joined = flags.switch("shell")
    if joined and "shell" not in flags.given:
        joined = not falls_apart(argv)
    if argv and joined:
        argv = tuple(shell_argv(" ".join(argv)))
    if url := flags.text("http-handler"):
        chosen = "handler-timeout" in flags.given
        within = flags.seconds("handler-timeout") if chosen else POST_TIMEOUT
        http = HttpHandler(path=url, timeout=within)
    given = dict(params)
    if flags.text("datacenter"):
        given["datacenter"] = flags.text("datacenter")
    return WatchPlan(
        type=spec.type,
        path=spec.path,
        params=spec.params,
        given=given,
        token=token,
        argv=argv,
        http=http,
    )


def _from_files(flags: FlagSet) -> list[WatchPlan]:
    """Return the plans of the files; the flags are the defaults of each."""
    import msgspec

    from .files import load

    plans = load(flags.many("file"), handlers=output_of(flags) == "json")
    # Read again at every reload, as the file of a token may have changed.
    token = from_flags(flags).token
    dc = flags.text("datacenter")
    made: list[WatchPlan] = []
    for plan in plans:
        params, given = plan.params, plan.given
        if dc and "datacenter" not in given:
            params, given = (*params, ("dc", dc)), given | {"datacenter": dc}
        made.append(
            msgspec.structs.replace(
                plan, params=params, given=given, token=plan.token or token
            )
        )
    return made


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


def _watch(
    flags: FlagSet,
    options: Options,
    plans: Sequence[WatchPlan],
    reload: Callable[[], Sequence[WatchPlan]] | None = None,
) -> int:
    # Imported here: asyncio and friends cost more than all of the above.
    from typing import Literal, cast

    import anyio

    from .seen import SeenFile
    from .several import Setup, run_watches
    from .watcher import How

    quiet, most = cast("tuple[float, float]", flags.value("debounce"))
    word = cast("Literal['first', 'exit', 'continue']", flags.text("on-error"))
    parallel = cast(
        "Literal['join', 'replace', 'queue', 'drop']", flags.text("parallel")
    )
    how = How(
        once=flags.switch("once"),
        skip_first=flags.switch("skip-first"),
        on_error=word or ("continue" if reload else "first"),
        quiet=quiet,
        most=most,
        diff=flags.switch("diff"),
        parallel=parallel,
    )
    seen = None
    if path := flags.text("state-file"):
        try:
            seen = SeenFile(path)
        except SettingsError as error:
            return _fail(f"Error reading the state file: {error}")
    setup = Setup(
        options=options,
        how=how,
        timeout=flags.seconds("handler-timeout"),
        named=reload is not None,
        poll_interval=flags.seconds("poll-interval"),
        seen=seen,
    )
    try:
        return anyio.run(run_watches, plans, setup, reload)
    except KeyboardInterrupt:
        return 0
    finally:
        if seen is not None:
            seen.close()


def _fail(text: str, end: str = "\n") -> int:
    print(text, file=sys.stderr, end=end)
    return 1
