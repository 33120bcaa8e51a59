"""The lists of commands that ``pyconsul`` shows without a command, or with ``-h``."""

from __future__ import annotations

from .main import COMMANDS, GROUPS

_SYNOPSES = {
    "agent": "Runs an agent",
    "catalog": "Lists datacenters, nodes and services",
    "catalog datacenters": "Lists the datacenters known",
    "catalog nodes": "Lists the nodes of a datacenter",
    "catalog services": "Lists the services of a datacenter",
    "config": "Reads and writes the settings shared by services",
    "config delete": "Deletes a config entry",
    "config list": "Lists the config entries of a kind",
    "config read": "Prints a config entry",
    "config write": "Writes a config entry",
    "debug": "Records what an agent does for some time",
    "event": "Fires an event at agents",
    "exec": "Runs a command on nodes",
    "force-leave": "Declares a failed member gone for good",
    "info": "Shows the counters of the agent",
    "join": "Makes the agent join a cluster",
    "keygen": "Makes a key for gossip",
    "keyring": "Lists and changes the keys of gossip",
    "kv": "Reads and writes keys",
    "kv delete": "Deletes a key, or all with a prefix",
    "kv export": "Prints a tree of keys as JSON",
    "kv get": "Prints a key, or all with a prefix",
    "kv import": "Writes a tree of keys from JSON",
    "kv put": "Writes a key",
    "leave": "Makes the agent leave the cluster and end",
    "lock": "Runs a command while holding a lock",
    "maint": "Takes a node or service out of use, and back",
    "members": "Lists the members of the cluster",
    "monitor": "Follows the log of the agent",
    "operator": "Shows and changes how the servers work together",
    "operator autopilot": "Shows and changes autopilot",
    "operator autopilot get-config": "Prints the settings",
    "operator autopilot set-config": "Changes the settings",
    "operator autopilot state": "Prints the servers and their health",
    "operator raft": "Shows and changes the Raft peers",
    "operator raft list-peers": "Prints the Raft peers",
    "operator raft remove-peer": "Removes a Raft peer",
    "operator raft transfer-leader": "Makes another server lead",
    "operator usage": "Counts services",
    "operator usage instances": "Prints how many instances there are",
    "reload": "Makes the agent read its configuration again",
    "rtt": "Estimates the round trip between two nodes",
    "services": "Registers and deregisters services",
    "services deregister": "Removes services from the agent",
    "services register": "Adds services to the agent",
    "snapshot": "Saves, restores and inspects the state of the servers",
    "snapshot decode": "Prints every record of a saved snapshot",
    "snapshot inspect": "Prints what a saved snapshot holds",
    "snapshot restore": "Replaces the state by a saved snapshot",
    "snapshot save": "Saves the state in a file",
    "tls": "Makes certificates for agents",
    "tls ca": "Makes certificate authorities",
    "tls ca create": "Makes a certificate authority",
    "tls cert": "Makes certificates",
    "tls cert create": "Makes a certificate for an agent",
    "validate": "Checks configuration files",
    "version": "Prints the version",
    "watch": "Prints or handles changes as they happen",
}


def synopsis(name: str) -> str:
    """Return what a command or group does, in a few words."""
    return _SYNOPSES[name]


def overview() -> str:
    """Return the list of all commands."""
    names = sorted({name.split()[0] for name in COMMANDS})
    return (
        "Usage: pyconsul [--version] [--help] <command> [<args>]\n\n"
        "Available commands are:\n" + _listing(names, names)
    )


def group_overview(group: str) -> str:
    """Return the help of a group of commands, such as ``kv``."""
    below = group + " "
    depth = below.count(" ")
    names = sorted(
        name
        for name in (*COMMANDS, *GROUPS)
        if name.startswith(below) and name.count(" ") == depth
    )
    return (
        f"Usage: pyconsul {group} <subcommand> [options] [args]\n\n"
        f"  {_SYNOPSES[group]}. Every subcommand explains itself with -h.\n\n"
        "Subcommands:\n" + _listing(names, [name.split()[-1] for name in names])
    )


def _listing(names: list[str], shown: list[str]) -> str:
    width = max(map(len, shown)) + 4
    return "".join(
        f"    {word.ljust(width)}{_SYNOPSES[name]}\n"
        for name, word in zip(names, shown, strict=True)
    )
