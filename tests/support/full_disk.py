"""Disks of a few megabytes that a test can fill up and empty again.

Each is a tmpfs in a mount namespace of its own, kept by a small process: what
else runs on the machine does not see it, and it is gone when the test is.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from pathlib import Path

from cluster import Loopback

_HOLD = 'mount -t tmpfs -o "size=$1" tmpfs "$2" && echo ready && exec cat'


class TinyDisk:
    """A tmpfs of ``size`` bytes over ``folder``, for commands after ``prefix``."""

    def __init__(self, folder: Path, size: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._holder = subprocess.Popen(
            [
                "unshare", "--mount", "--propagation=private",
                "sh", "-c", _HOLD, "sh", str(size), str(folder),
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n"
        pid = self._holder.pid
        self.prefix = ["nsenter", f"--mount=/proc/{pid}/ns/mnt", "--"]
        self.path = Path(f"/proc/{pid}/root{folder}")
        """The folder as this process sees it."""

    @staticmethod
    def possible() -> bool:
        """Tell whether this process may mount file systems."""
        if shutil.which("unshare") is None or shutil.which("nsenter") is None:
            return False
        command = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def fill(self) -> int:
        """Leave no room; return how many bytes there were."""
        block = bytes(4096)
        size = 0
        with open(self.path / "filler", "ab", buffering=0) as filler:
            while True:
                try:
                    size += filler.write(block)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    return size

    def free(self) -> None:
        """Give back what ``fill`` took."""
        (self.path / "filler").unlink()

    def room(self) -> int:
        """Return how many bytes are free."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def close(self) -> None:
        """Remove the disk, once nobody uses it any more."""
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.stdout.close()
        self._holder.wait()


class TinyDisks(Loopback):
    """Loopback addresses; each node numbered in ``sizes`` has a disk of its own."""

    def __init__(self, folder: Path, sizes: dict[int, int]) -> None:
        super().__init__()
        self.disks = {
            number: TinyDisk(folder / f"disk{number}", size)
            for number, size in sizes.items()
        }

    def add(self, number: int) -> tuple[str, list[str]]:
        """Return the address of node ``number`` and what starts a command there."""
        address, _ = super().add(number)
        disk = self.disks.get(number)
        return address, disk.prefix if disk else []

    def close(self) -> None:
        """Remove the disks."""
        with contextlib.ExitStack() as stack:
            for disk in self.disks.values():
                stack.callback(disk.close)
