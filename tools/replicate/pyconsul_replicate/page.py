"""The status page: /metrics for Prometheus, /status as JSON, /health."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import msgspec

from pyconsul_client.tool.exits import ERROR, ToolError

from .job import Job
from .twoway import TwoWay

MAX_REQUEST = 8 * 1024
PATIENCE_S = 5.0
MAX_AGE_S = 300.0
"""A job without a good pass for so long is not healthy."""
METRICS = (
    ("passes", "counter", "Full comparisons carried out."),
    ("changes", "counter", "Source keys that changed while following."),
    ("written", "counter", "Keys written at the destination."),
    ("bytes", "counter", "Bytes of values written at the destination."),
    ("deleted", "counter", "Keys deleted at the destination."),
    ("conflicts", "counter", "Keys that changed under our hands."),
    ("refused_deletes", "gauge", "Deletes that wait for a decision."),
    ("waiting_deletes", "gauge", "Deletes whose grace is not over."),
    ("skipped_locked", "gauge", "Destination keys held by sessions."),
    ("open_conflicts", "gauge", "Keys changed at both sides and left alone."),
    ("decided_conflicts", "counter", "Keys changed at both sides; one version won."),
    ("errors", "counter", "Failures that led to another try."),
    ("source_keys", "gauge", "Keys of the source that take part."),
    ("source_index", "gauge", "Index of the source."),
    ("lag_index", "gauge", "How far the copy is behind, in indexes of the source."),
    ("lag_seconds", "gauge", "For how long the copy has been behind."),
    ("leading", "gauge", "Whether this instance is the one that works."),
    ("last_success", "gauge", "Unix time of the last good pass or change."),
)


class Page:
    """Serves while entered; an empty address serves nothing."""

    def __init__(self, address: str, jobs: Sequence[Job | TwoWay]) -> None:
        self._address = address
        self._jobs = jobs
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Page:
        if not self._address:
            return self
        host, _, port = self._address.rpartition(":")
        try:
            self._server = await asyncio.start_server(
                self._answer, host.strip("[]") or "127.0.0.1", int(port),
                limit=MAX_REQUEST,
            )  # fmt: skip
        except (OSError, ValueError, OverflowError) as error:
            text = f"cannot serve the status page at {self._address}: {error}"
            raise ToolError(ERROR, text) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                head = await reader.readuntil(b"\r\n\r\n")
                words = head.split(b"\r\n")[0].split()
                path = words[1].partition(b"?")[0] if len(words) == 3 else b""
                status, kind, body = self.page(path.decode("latin-1"))
                writer.write(
                    f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: "
                    f"{len(body)}\r\nConnection: close\r\n\r\n".encode()
                    + body
                )
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass
        except asyncio.LimitOverrunError:
            pass
        finally:
            writer.close()

    def page(self, path: str) -> tuple[str, str, bytes]:
        """Return status line, content type and body of a path."""
        if path == "/metrics":
            return "200 OK", "text/plain; version=0.0.4", self._metrics().encode()
        if path == "/status":
            return "200 OK", "application/json", self._status()
        if path == "/health":
            late = [job.name for job in self._jobs if not self._healthy(job)]
            if late:
                text = "".join(f"{name}: behind\n" for name in late)
                return "503 Service Unavailable", "text/plain", text.encode()
            return "200 OK", "text/plain", b"ok\n"
        return "404 Not Found", "text/plain", b"not found\n"

    @staticmethod
    def _healthy(job: Job | TwoWay) -> bool:
        counters = job.counters
        allowed = max(MAX_AGE_S, 2 * job.settings.reconcile_s)
        if not counters.leading:
            return True  # Another instance works, and answers for it.
        recent = time.time() - counters.last_success < allowed
        return recent and not (counters.refused_deletes or counters.open_conflicts)

    def _status(self) -> bytes:
        rows = [
            {
                "name": job.name,
                **msgspec.structs.asdict(job.counters),
                "lag_index": job.counters.lag_index,
                "lag_seconds": job.counters.lag_seconds,
            }
            for job in self._jobs
        ]
        return msgspec.json.format(msgspec.json.encode(rows), indent=2) + b"\n"

    def _metrics(self) -> str:
        lines: list[str] = []
        for name, kind, text in METRICS:
            full = f"pyconsul_replicate_{name}" + (
                "_total" if kind == "counter" else ""
            )
            lines += [f"# HELP {full} {text}", f"# TYPE {full} {kind}"]
            for job in self._jobs:
                value: int | float = getattr(job.counters, name)
                labels = ",".join(
                    f'{label}="{_escape(given)}"'
                    for label, given in (
                        ("source", job.pair.source),
                        ("datacenter", job.pair.datacenter),
                        ("destination", job.pair.destination),
                        ("to", job.destination.agent.name),
                    )
                )
                lines.append(f"{full}{{{labels}}} {float(value):.15g}")
        return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
