"""A link that loses a share of the packets of one direction, without netem.

The kernel routes what one network namespace sends to another into a TUN device;
a small process reads it there, drops packets by a seeded draw, and writes the
others to a TUN device of the receiving namespace. Answers go the usual way. The
process ends with its standard input or after ``LIFE_S``; the devices and their
routes go with it, so the link heals by itself. See the kernel's
Documentation/networking/tuntap.rst.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import selectors
import struct
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Any

TUN = "/dev/net/tun"
LIFE_S = 300.0
BATCH = 64
"""Packets read of one device before the others get their turn."""

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_PROTOCOLS = {6: "tcp", 17: "udp"}


class Sieve:
    """Decides which packets pass; ``counts`` has [seen, dropped] a protocol."""

    def __init__(self, share: float, seed: int) -> None:
        self._share = share
        self._draw = random.Random(seed)
        self.counts: dict[str, list[int]] = {"tcp": [0, 0], "udp": [0, 0]}

    def passes(self, packet: bytes) -> bool:
        """Tell whether to hand a packet on; only IPv4 ever is."""
        if len(packet) < 20 or packet[0] >> 4 != 4:
            return False
        kept = self._draw.random() >= self._share
        count = self.counts.get(_PROTOCOLS.get(packet[9], ""))
        if count is not None:
            count[0] += 1
            count[1] += not kept
        return kept


def open_tun(name: str) -> int:
    """Make a TUN device in this namespace; return its descriptor, non-blocking."""
    device = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(
        device,
        _TUNSETIFF,
        struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI),
    )
    return device


def forward(sieve: Sieve, ways: dict[int, int]) -> None:
    """Hand packets on until standard input ends; a line there asks for counts."""
    end = time.monotonic() + LIFE_S
    with selectors.DefaultSelector() as waiting:
        waiting.register(0, selectors.EVENT_READ)
        for source in ways:
            waiting.register(source, selectors.EVENT_READ)
        while (left := end - time.monotonic()) > 0:
            for key, _ in waiting.select(left):
                if key.fd != 0:
                    _some(sieve, key.fd, ways[key.fd])
                elif os.read(0, 4096):
                    print(json.dumps(sieve.counts), flush=True)
                else:
                    return


def _some(sieve: Sieve, source: int, target: int) -> None:
    for _ in range(BATCH):
        try:
            packet = os.read(source, 65536)
        except BlockingIOError:
            return
        if sieve.passes(packet):
            # A full queue, or a device that is not up yet: one more is lost.
            with contextlib.suppress(OSError):
                os.write(target, packet)


def main(words: list[str]) -> None:
    """Run the process: SHARE SEED, then names of devices, source and target."""
    sieve = Sieve(float(words[0]), int(words[1]))
    devices = [open_tun(name) for name in words[2:]]
    print("ready", flush=True)
    forward(sieve, dict(zip(devices[::2], devices[1::2], strict=True)))


class LossyLink:
    """Loses ``share`` of what goes one way between pairs of namespaces.

    ``ways`` has for each the sending namespace, the receiving namespace and the
    IPv4 address that the latter has; ``home`` is where the process runs. Raises
    AssertionError or CalledProcessError when the system does not let it.
    """

    def __init__(
        self, home: str, ways: Iterable[tuple[str, str, str]], share: float, seed: int
    ) -> None:
        ways = list(ways)
        names = [(f"lossi{at}", f"losso{at}") for at in range(len(ways))]
        words = [str(share), str(seed), *(name for pair in names for name in pair)]
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", home, sys.executable, __file__, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert self._answer() == "ready\n", "no TUN devices"
            for (inner, outer), (source, target, address) in zip(
                names, ways, strict=True
            ):
                # The receiver first: what passes must find it ready.
                self._place(home, outer, target)
                self._place(home, inner, source)
                _ip("-n", source, "route", "replace", f"{address}/32", "dev", inner)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def possible() -> bool:
        """Tell whether TUN devices can be opened."""
        try:
            os.close(os.open(TUN, os.O_RDWR))
        except OSError:
            return False
        return True

    def counts(self) -> dict[str, list[int]]:
        """Return [packets seen, packets dropped] of ``tcp`` and of ``udp``."""
        assert self._process.stdin is not None
        self._process.stdin.write("counts\n")
        self._process.stdin.flush()
        return json.loads(self._answer())

    def close(self) -> None:
        """End the process; devices and routes vanish with it."""
        self._process.communicate(timeout=20)

    def __enter__(self) -> LossyLink:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    @staticmethod
    def _place(home: str, device: str, namespace: str) -> None:
        _ip("-n", home, "link", "set", device, "netns", namespace)
        # Packets come in where no answer would go out.
        relax = "echo 0 | tee /proc/sys/net/ipv4/conf/*/rp_filter"
        _ip("netns", "exec", namespace, "sh", "-c", relax)
        _ip("-n", namespace, "link", "set", device, "up")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


if __name__ == "__main__":
    main(sys.argv[1:])
