"""The flags of ``pyconsul watch``: Consul's, and our own.

Observed: Consul 1.10.11 ``consul watch``. Imports only what is light.
"""

from __future__ import annotations

from pyconsul_client.errors import FlagError, OptionsError
from pyconsul_client.goflags import FlagSet
from pyconsul_client.options import add_client_flags, add_server_flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_TIMEOUT = 60.0
PARAMETERS = ("key", "prefix", "service", "state", "name", "filter", "query")
_OUTPUTS = ("json", "jsonl", "yaml", "table")


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
    flags.boolean(
        "shell",
        True,
        "Use a shell to run the command. Unless this is given, several words of "
        "which one would fall apart in a shell are run as they are.",
    )
    flags.duration(
        "handler-timeout",
        DEFAULT_TIMEOUT,
        "How long a run of the child may take before it is killed; 0 for no limit. "
        "The default is 1m; 10s for -http-handler.",
    )
    _declare_sources(flags)
    _declare_handling(flags)
    return flags


def _declare_sources(flags: FlagSet) -> None:
    """Declare what the reference does not have: what to watch, what to print."""
    flags.strings(
        "file",
        "File or folder with watches as in an agent's configuration; may be given "
        "several times. SIGHUP reads them again.",
        placeholder="path",
    )
    flags.string(
        "query",
        text="Prepared query to watch, by name or ID; the type is 'query' then. "
        "It is executed again and again.",
    )
    flags.duration(
        "poll-interval",
        10.0,
        "How often a prepared query is executed. The default is 10s.",
    )
    flags.custom(
        "output",
        "",
        _choice(*_OUTPUTS),
        "json, yaml and table print the data once, jsonl a line of JSON with type, "
        "params, index and result now and for every change. The default is json.",
        placeholder="|".join(_OUTPUTS),
    )
    flags.custom(
        "format",
        "",
        _choice(*_OUTPUTS),
        "The same as -output.",
        placeholder="|".join(_OUTPUTS),
    )


def _declare_handling(flags: FlagSet) -> None:
    """Declare what the reference does not have: how to handle changes."""
    flags.string(
        "http-handler",
        text="Send the JSON to this URL by POST, with its index in X-Consul-Index, "
        "instead of running a command.",
        placeholder="url",
    )
    flags.boolean(
        "once", text="End after the first answer is printed or handled; 1 if it failed."
    )
    flags.boolean(
        "skip-first", text="Do not handle the first answer, only what changes later."
    )
    flags.boolean(
        "diff",
        text="Give the old and the new data, and the names of what was added, "
        "changed and removed; CONSUL_EVENT is added, changed or removed.",
    )
    flags.custom(
        "debounce",
        (0.0, 0.0),
        _debounce,
        "Handle changes as one, with the newest data, until there was none for MIN, "
        "at most for MAX. MAX is four times MIN unless given.",
        placeholder="min[:max]",
    )
    flags.custom(
        "parallel",
        "join",
        _choice("join", "replace", "queue", "drop"),
        "What becomes of changes while the handler runs: one more call with the "
        "newest data (join), the same but the running call is ended (replace), a "
        "call for each (queue), none (drop). The default is join.",
        placeholder="join|replace|queue|drop",
    )
    flags.custom(
        "on-error",
        "",
        _choice("first", "exit", "continue"),
        "When a failed handler ends the watch with status 1: at the first answer "
        "only, always (exit), or never (continue). The default is first, and with "
        "-file continue.",
        placeholder="first|exit|continue",
    )
    flags.string(
        "state-file",
        text="Keep the ids of the events handled in this file, so that they are not "
        "handled again after a restart.",
        placeholder="path",
    )


def output_of(flags: FlagSet) -> str:
    """Return how data is printed; raises OptionsError for two different ways."""
    chosen = {flags.text(name) for name in ("output", "format")} - {""}
    if len(chosen) > 1:
        raise OptionsError("-output and -format are the same, but have two values")
    return chosen.pop() if chosen else "json"


def check(flags: FlagSet) -> None:
    """Raise OptionsError for flags that contradict each other."""
    url, files = flags.text("http-handler"), flags.many("file")
    if url:
        from .files import check_url

        check_url(url)
        if flags.operands:
            raise OptionsError("Only one watch handler allowed")
    own = [*PARAMETERS, "type", "tag", "passingonly", "http-handler"]
    foreign = [f"-{name}" for name in own if name in flags.given]
    if files and (foreign or flags.operands):
        what = ", ".join(foreign) or "a command"
        raise OptionsError(f"The watches are those of -file: {what} is too much")
    output, handled = output_of(flags), bool(flags.operands or url)
    if handled and output != "json":
        name = "output" if flags.text("output") else "format"
        raise OptionsError(f"With -{name}={output} changes are printed, not handled")
    if files and output in ("yaml", "table"):
        raise OptionsError(f"-output={output} is for one watch, not for -file")
    if flags.switch("once") and flags.switch("skip-first"):
        raise OptionsError("-once and -skip-first together leave nothing to do")
    if flags.text("parallel") == "queue" and "debounce" in flags.given:
        raise OptionsError("-debounce joins changes, -parallel=queue keeps each")
    if flags.seconds("poll-interval") <= 0:
        raise OptionsError("-poll-interval must be positive")
    printed = not (handled or files or output == "jsonl")
    for name in ("diff", "state-file"):
        if printed and name in flags.given:
            raise OptionsError(f"-{name} needs a command, or -output=jsonl")
    if flags.text("state-file") and not files and flags.text("type") != "event":
        raise OptionsError("-state-file keeps events: it is for -type=event and -file")


def _choice(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise FlagError(f"must be {' or '.join(words)}")
        return text

    return parse


def _debounce(text: str) -> tuple[float, float]:
    from pyconsul_client.tool.schema import wait_times

    try:
        return wait_times(text)
    except ValueError as error:
        raise FlagError(str(error)) from error
