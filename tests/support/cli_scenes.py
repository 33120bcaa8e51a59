"""What a user types, and what ``pyconsul`` answers: text and exit status.

The recorded ``cli-*`` cases of the conformance kit have most commands and flags;
here is what they leave out. Scenes are read by ``test_cli_every_command.py``,
which runs them, and by ``test_cli_coverage.py``, which looks for gaps.

In a text, ``<uuid>``, ``<n>``, ``<size>``, ``<help>`` and ``<any>`` stand for what
differs from run to run; the rest is compared as it is.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field

VARIABLE = {
    "<uuid>": r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "<n>": r"\d+",
    "<seconds>": r"\d+\.\d\d",
    "<rtt>": r"\d+\.\d{3}",
    "<size>": r"\d+(?:\.\d)?[KM]?B",
    "<help>": r"(?s:Usage: pyconsul .+)",
    "<any>": r"(?s:.*)",
    "<base64>": r"[A-Za-z0-9+/]{43}=",
}
_TOLD = re.compile("(" + "|".join(map(re.escape, VARIABLE)) + ")")


@dataclass(frozen=True)
class Step:
    """A command with its words as for a shell, and the lines it prints.

    Where ``out`` or ``err`` is a tuple of lines, each ends with a newline.
    """

    typed: str
    out: tuple[str, ...] = ()
    err: tuple[str, ...] = ()
    status: int = 0
    given: str = ""
    env: dict[str, str] = field(default_factory=dict[str, str])
    files: dict[str, str] = field(default_factory=dict[str, str])
    """Written before: name and content."""

    @property
    def words(self) -> list[str]:
        """The words after ``pyconsul``."""
        return shlex.split(self.typed)


def pattern(lines: tuple[str, ...]) -> re.Pattern[str]:
    """Return what matches exactly these lines, variable parts aside."""
    text = "".join(line + "\n" for line in lines)
    parts = _TOLD.split(text)
    return re.compile("".join(VARIABLE.get(part) or re.escape(part) for part in parts))


CREATED = "Created remote execution session: <uuid>"
WRITTEN = "Success! Data written to: "
CAPTURE = "==> Capture validation failed: "
HEAD = "Node  Address          Status  Type    Build    Protocol  DC   Segment"
MEMBER = "n1    127.0.0.1:<n>  alive   server  1.10.11  2         dc1  <all>"
ENTRY = 'Kind = "service-defaults"\nName = "web"\nProtocol = "http"\n'
SERVER_WARNING = (
    "==> WARNING: Server Certificates grants authority to become a",
    "    server and access all state in the cluster including root keys",
    "    and all ACL tokens. Do not distribute them to production hosts",
    "    that are not server nodes. Store them as securely as CA keys.",
)
SPOKEN = (
    "Consul v1.10.11",
    "Protocol 2 spoken by default, understands 2 to 3 (agent will automatically use "
    "protocol >2 when speaking to compatible agents)",
)
USED = (
    "Type                 Service instances",
    "api-gateway          0",
    "connect-native       0",
    "connect-proxy        <n>",
    "ingress-gateway      0",
    "mesh-gateway         0",
    "terminating-gateway  0",
)
DECODED = (
    '{"Type":"SnapshotHeader","Data":{"LastIndex":<n>}}',
    "<any>",
    '{"Type":"KVS",<any>"Key":"zed",<any>"Value":"MQ=="<any>}',
    "<any>",
)
INSPECTED = (
    " ID           <n>-<n>-<n>",
    " Size         <n>",
    " Index        <n>",
    " Term         <n>",
    " Version      1",
    "",
    "<any>",
    " Total<any><size>",
    "",
    " Key Name      Count      Size",
    " ----          ----       ----",
    " foo/bar       1          <size>",
    " foo/x         1          <size>",
    " ----          ----       ----",
    " Total                    <size>",
)

SCENES: dict[str, tuple[Step, ...]] = {
    "words before and between": (
        Step("kv -stale get x", err=("<help>",), status=1),
        Step("snapshot agent", err=("<help>",), status=1),
        Step("kv get ---x a", err=("bad flag syntax: ---x", "<help>"), status=1),
        Step(
            "kv get -http-addr",
            err=("flag needs an argument: -http-addr", "<help>"),
            status=1,
        ),
        Step(
            "kv get -stale=maybe a",
            err=(
                'invalid boolean value "maybe" for -stale: strconv.ParseBool: '
                'parsing "maybe": invalid syntax',
                "<help>",
            ),
            status=1,
        ),
        Step(
            "operator autopilot set-config -last-contact-threshold foo",
            err=(
                'invalid value "foo" for flag -last-contact-threshold: '
                'time: invalid duration "foo"',
                "<help>",
            ),
            status=1,
        ),
        Step(
            "operator autopilot set-config -min-quorum=-1",
            err=('invalid value "-1" for flag -min-quorum: <any>', "<help>"),
            status=1,
        ),
        Step("kv get -stale true", err=("Error! No key exists at: true",), status=1),
        Step("kv get -", err=("Error! No key exists at: -",), status=1),
        Step("kv get -help", out=("<help>",)),
        Step(
            "kv get -namespace=team -",
            err=("Error querying Consul agent: Unexpected response code: 400",),
            status=1,
        ),
        Step(
            "version -h",
            out=(
                "Usage: pyconsul version [options]",
                "",
                "  Prints the release of Consul whose formats this program speaks.",
                "",
                "Command Options",
                "",
                "  -format=<string>",
                "     Output: pretty or json.",
            ),
        ),
    ),
    "where the agent is": (
        Step("kv put a b", out=(WRITTEN + "a",)),
        Step(
            "kv get a",
            env={"CONSUL_HTTP_ADDR": "ftp://x"},
            err=("Error connecting to Consul agent: Unknown protocol scheme: ftp",),
            status=1,
        ),
        Step(
            "kv get -token-file=missing a",
            err=(
                "Error connecting to Consul agent: Error loading token file: open "
                "missing: no such file or directory",
            ),
            status=1,
        ),
        Step(
            "kv get a",
            env={"CONSUL_HTTP_SSL": "maybe"},
            out=("b",),
            err=("[WARN] could not parse CONSUL_HTTP_SSL",),
        ),
    ),
    "version and keys": (
        Step("version", out=SPOKEN),
        Step("-v", out=SPOKEN),
        Step("version -format=pretty", out=SPOKEN),
        Step(
            "version -format=json",
            out=(
                "{",
                '   "Version": "1.10.11",',
                '   "Revision": "",',
                '   "Prerelease": "",',
                '   "RPC": {',
                '      "Default": 2,',
                '      "Min": 2,',
                '      "Max": 3',
                "   }",
                "}",
            ),
        ),
        Step("version -format=xml", err=("Unknown format: xml",), status=1),
        Step("keygen", out=("<base64>",)),
    ),
    "members": (
        Step("members -filter 'Name == n1'", out=(HEAD, MEMBER)),
        Step("members -filter 'Tags.dc == dc1 and Status == 1'", out=(HEAD, MEMBER)),
        Step("members -filter 'Name == n2'", status=2),
        Step(
            "members -filter 'Bad == 1'",
            err=(
                "Error retrieving members: Failed to create boolean expression "
                'evaluator: Selector "Bad" is not valid',
            ),
            status=1,
        ),
    ),
    "services": (
        Step(
            "services register -name=sock -socket=/run/sock",
            out=("Registered service: sock",),
        ),
        Step(
            "services register -name=side -kind=connect-proxy",
            err=(
                'Error registering service "side": Unexpected response code: 400 '
                "(2 errors occurred:",
                "\t* Proxy.DestinationServiceName must be non-empty for Connect "
                "proxy services",
                "\t* Port or SocketPath must be set for a Connect proxy",
                "",
                ")",
            ),
            status=1,
        ),
        Step(
            "services register -name=gate -kind=mesh-gateway -port=1",
            out=("Registered service: gate",),
        ),
        Step("catalog services", out=("consul", "gate", "sock")),
        Step(
            "catalog services -node-meta=a",
            err=(
                'invalid value "a" for flag -node-meta: Missing "=" value in '
                "argument: a",
                "<help>",
            ),
            status=1,
        ),
        Step("services deregister -id=gate", out=("Deregistered service: gate",)),
        Step("services deregister -id=sock", out=("Deregistered service: sock",)),
    ),
    "config": (
        Step(
            "config write -cas d.hcl",
            files={"d.hcl": ENTRY},
            out=("Config entry written: service-defaults/web",),
        ),
        Step(
            "config write -cas d.hcl",
            err=("Config entry not updated: service-defaults/web",),
            status=1,
        ),
        Step(
            "config write -cas -modify-index=3 d.hcl",
            err=("Config entry not updated: service-defaults/web",),
            status=1,
        ),
        Step("config list -kind=service-defaults", out=("web",)),
        Step(
            "config delete -filename=d.hcl",
            out=("Config entry deleted: service-defaults/web",),
        ),
        Step("config list -kind=service-defaults"),
        Step(
            "config delete -filename=d.hcl -name=web",
            err=("Must specify either -filename or -kind and -name",),
            status=1,
        ),
        Step(
            "config delete -filename=none.hcl",
            err=(
                "Failed to load data: Failed to read file: open none.hcl: no such "
                "file or directory",
            ),
            status=1,
        ),
        Step(
            "config delete -kind=service-defaults -name=web",
            out=("Config entry deleted: service-defaults/web",),
        ),
    ),
    "snapshots": (
        Step("kv put foo/bar/baz 1", out=(WRITTEN + "foo/bar/baz",)),
        Step("kv put foo/x/y 1", out=(WRITTEN + "foo/x/y",)),
        Step("kv put zed 1", out=(WRITTEN + "zed",)),
        Step(
            "snapshot save -append-filename=version,dc,node,status x.snap",
            out=("Saved and verified snapshot to index <n>",),
        ),
        Step(
            "snapshot inspect -kvdetails -kvfilter=foo x-1.10.11-dc1-n1-leader.snap",
            out=INSPECTED,
        ),
        Step("snapshot decode x-1.10.11-dc1-n1-leader.snap", out=DECODED),
        Step(
            "snapshot save -append-filename=nope x.snap",
            err=("Error: unknown value for -append-filename: nope",),
            status=1,
        ),
        Step(
            "kv delete -recurse foo/", out=("Success! Deleted keys with prefix: foo/",)
        ),
        Step(
            "snapshot restore x-1.10.11-dc1-n1-leader.snap", out=("Restored snapshot",)
        ),
        Step("kv get -recurse foo", out=("foo/bar/baz:1", "foo/x/y:1")),
    ),
    "operator": (
        Step(
            "operator autopilot set-config -redundancy-zone-tag=zone "
            "-disable-upgrade-migration -upgrade-version-tag=v",
            out=("Configuration updated!",),
        ),
        Step(
            "operator autopilot get-config",
            out=(
                "CleanupDeadServers = true",
                "LastContactThreshold = 200ms",
                "MaxTrailingLogs = 250",
                "MinQuorum = 0",
                "ServerStabilizationTime = 10s",
                'RedundancyZoneTag = "zone"',
                "DisableUpgradeMigration = true",
                'UpgradeVersionTag = "v"',
            ),
        ),
        Step(
            "operator usage instances",
            out=(
                "Billable Service Instances Total: <n>",
                "",
                "Billable Services",
                "Services  Service instances",
                "<n><any><n>",
                "",
                "Connect Services",
                *USED,
            ),
        ),
        Step("operator usage instances -connect", out=("Connect Services", *USED)),
        Step(
            "operator usage instances -billable -all-datacenters",
            out=(
                "Billable Service Instances Total: <n>",
                "",
                "Billable Services",
                "Datacenter  Services  Service instances",
                "dc1         <n><any><n>",
                "Total       <n><any><n>",
            ),
        ),
        Step(
            "operator raft transfer-leader",
            err=(
                "Error transferring leadership: Unexpected response code: 500 "
                "(there is no other voter)",
            ),
            status=1,
        ),
        Step(
            "operator raft transfer-leader -id=nope",
            err=(
                "Error transferring leadership: Unexpected response code: 500 "
                '(id "nope" was not found in the Raft configuration)',
            ),
            status=1,
        ),
    ),
    "events and exec": (
        Step(
            f"event -name=big {'x' * 520}",
            status=1,
            err=(
                "Error firing event: Unexpected response code: 500 (1 error occurred:",
                '\t* error broadcasting event to segment "": user event exceeds '
                "configured limit of 512 bytes before encoding",
                "",
                ")",
            ),
        ),
        Step("event -name=small x", out=("Event ID: <uuid>",)),
        Step(
            "exec -prefix=_mine -verbose -wait=20s 'echo hi'",
            out=(
                CREATED,
                "Uploaded remote execution spec",
                "Fired remote execution event: <uuid>",
                "==> n1: acknowledged",
                "    n1: hi",
                "    n1:",
                "==> n1: finished with exit code 0",
                "1 / 1 node(s) completed / acknowledged",
                "Completed in <seconds> seconds",
            ),
        ),
        Step("exec -h -- ls", out=("<help>",)),
        Step(
            "exec -- echo -h",
            out=(
                "    n1: -h",
                "    n1:",
                "==> n1: finished with exit code 0",
                "1 / 1 node(s) completed / acknowledged",
            ),
        ),
        Step("kv get -keys _mine"),
    ),
    "watch": (
        Step("kv put w 1", out=(WRITTEN + "w",)),
        Step(
            "watch -type=key -key=w -filter=x",
            status=1,
            err=("Invalid parameters: [filter]",),
        ),
        Step("watch -type=nodes -filter='Node == nobody'", out=("[]",)),
        Step(
            "watch -type=key -key=w -handler-timeout=x true",
            status=1,
            err=(
                'invalid value "x" for flag -handler-timeout: parse error',
                "<help>",
            ),
        ),
    ),
    "debug": (
        Step(
            "debug -duration=1s",
            status=1,
            err=(CAPTURE + "duration must be longer than 10s",),
        ),
        Step(
            "debug -interval=1s",
            status=1,
            err=(CAPTURE + "interval must be longer than 5s",),
        ),
        Step(
            "debug -capture=nope", status=1, err=(CAPTURE + "target not found: nope",)
        ),
        Step("debug extra", status=1, err=("Too many arguments (expected 0, got 1)",)),
        Step(
            "debug -duration=10s -interval=10s -capture=host -capture=agent "
            "-archive=false -output=found",
            out=(
                "==> Starting debugger and capturing static information...",
                "     Agent Version: '1.10.11'",
                "          Interval: '10s'",
                "          Duration: '10s'",
                "            Output: 'found'",
                "           Capture: 'host, agent'",
                "<any>    Saved debug directory: found",
            ),
        ),
    ),
    "tls": (
        Step(
            "tls ca create -name-constraint -additional-name-constraint=example.com "
            "-cluster-id=11111111-2222-3333-4444-555555555555 -common-name=Ours "
            "-days=3 -domain=ours",
            out=("==> Saved ours-agent-ca.pem", "==> Saved ours-agent-ca-key.pem"),
        ),
        Step(
            "tls cert create -server -node=s1 -additional-dnsname=s1.example.com "
            "-additional-ipaddress=10.0.0.1 -days=2 -domain=ours -dc=east",
            out=(
                *SERVER_WARNING,
                "==> Using ours-agent-ca.pem and ours-agent-ca-key.pem",
                "==> Saved east-server-ours-0.pem",
                "==> Saved east-server-ours-0-key.pem",
            ),
        ),
        Step(
            "tls cert create -client -node=c1",
            status=1,
            err=("-node requires -server",),
        ),
    ),
    "validate": (
        Step(
            "validate -config-file=one.json -config-dir=more",
            files={
                "one.json": '{"data_dir": "data"}',
                "more/two.hcl": 'domain = "x"\n',
            },
            out=("Configuration is valid!",),
        ),
        Step(
            "validate -config-file=none.json",
            err=(
                "Config validation failed: config: Open failed on none.json. open "
                "none.json: no such file or directory",
            ),
            status=1,
        ),
    ),
    "distances and maintenance": (
        Step("maint -enable", out=("Node maintenance is now enabled",)),
        Step(
            "maint",
            out=(
                "Node:",
                "  Name:   n1",
                "  Reason: Maintenance mode is enabled for this node, but no reason "
                "was provided. This is a default message.",
                "",
            ),
        ),
        Step("maint -disable", out=("Node maintenance is now disabled",)),
        Step(
            "rtt nobody",
            status=1,
            err=('Could not find a coordinate for node "nobody"',),
        ),
        Step(
            "join -wan",
            status=1,
            err=("At least one address to join must be specified.", "", "<help>"),
        ),
        Step("reload", out=("Configuration reload triggered",)),
    ),
}
