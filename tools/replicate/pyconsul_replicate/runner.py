"""Runs the jobs: retries, reload, stop, progress."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Callable

from pyconsul_client.errors import ClientError
from pyconsul_client.tool import common, exits
from pyconsul_client.tool.backoff import Backoff
from pyconsul_client.tool.journal import Journal

from .buckets import MAX_PIECES
from .config import Config, Side
from .errors import RefusedError, SetupError
from .follow import Follower
from .job import Job
from .page import Page
from .store import Store
from .wire import Agent

CONNECTIONS = 144
"""Of the 200 a server allows from one address, for watches of all jobs."""
PROGRESS_S = 0.1


class Progress:
    """One line on a terminal, rewritten; nothing elsewhere."""

    def __init__(self) -> None:
        self._shown = 0.0
        self._active = sys.stderr.isatty()

    def __call__(self, name: str, done: int, total: int) -> None:
        """Show how far a pass is."""
        now = time.monotonic()
        if not self._active or (done < total and now - self._shown < PROGRESS_S):
            return
        self._shown = now
        end = "\n" if done >= total else ""
        line = "".join(c if c.isprintable() else "?" for c in name)
        os.write(2, f"\r\x1b[K{line}: {done}/{total} keys{end}".encode())


class Runner:
    """All jobs of one configuration."""

    def __init__(self, config: Config, journal: Journal) -> None:
        self._config = config
        self._journal = journal
        self._agents: list[Agent] = []
        progress = Progress()
        self.jobs = [
            self._job(number, side, progress)
            for side in config.destinations
            for number in range(len(config.pairs))
        ]

    def _job(self, number: int, side: Side, progress: Progress) -> Job:
        config, pair = self._config, self._config.pairs[number]
        origin = config.source or Side(side.options)
        source = Agent(origin.options, pair.datacenter)
        destination = Agent(side.options, side.datacenter)
        self._agents += [source, destination]
        return Job(
            pair,
            config.rules,
            Store(source, max_stale=config.max_stale),
            Store(destination),
            config.job,
            self._journal,
            progress=progress,
        )

    async def run(self) -> int:
        """Run to the end, which a daemon has not; return the exit status."""
        most = max(1, min(MAX_PIECES, CONNECTIONS // max(1, len(self.jobs))))
        try:
            done = await asyncio.gather(*(self._attend(job, most) for job in self.jobs))
        finally:
            for agent in self._agents:
                agent.close()
        return exits.OK if all(done) else exits.FAILED

    async def _attend(self, job: Job, pieces: int) -> bool:
        """Run one job with retries; false when it failed for good."""
        once = self._config.once
        tries = self._backoff()
        while True:
            try:
                await job.check()
                if once:
                    await job.once()
                    return True
                try:
                    await job.once()
                except RefusedError as error:
                    # What may be copied was; the rest waits for a decision.
                    job.counters.last_error = str(error)
                    self._journal.error(str(error))
                tries.reset()
                await Follower(job, pieces).run()
            except (RefusedError, SetupError) as error:
                self._journal.error(str(error))
                return False
            except ClientError as error:
                job.counters.errors += 1
                job.counters.last_error = str(error)
                pause = tries.failed(random.random())
                final = pause is None or (once and not error.retryable)
                self._journal.error(f"{job.name}: {error}")
                if final:
                    return False
                assert pause is not None
                self._journal.warn(f"{job.name}: trying again in {pause:.2f} s")
                await asyncio.sleep(pause)

    def _backoff(self) -> Backoff:
        config = self._config
        if config.once or config.attempts_given:
            return common.backoff(config.values)
        # A daemon waits as long as it takes: an outage is no reason to end.
        retry = config.values.get("consul", {}).get("retry", {})
        return common.backoff({"consul": {"retry": {**retry, "attempts": 0}}})


async def serve(load: Callable[[], Config], config: Config, journal: Journal) -> int:
    """Run, reading the settings again on the reload signal."""
    loop = asyncio.get_running_loop()
    stop, reload = asyncio.Event(), asyncio.Event()
    values = config.values
    for number in {values.get("kill_signal", signal.SIGINT), signal.SIGTERM} - {0}:
        loop.add_signal_handler(number, stop.set)
    if again := values.get("reload_signal", signal.SIGHUP):
        loop.add_signal_handler(again, reload.set)
    while True:
        runner = Runner(config, journal)
        work = asyncio.create_task(runner.run())
        waits = [asyncio.create_task(event.wait()) for event in (stop, reload)]
        try:
            async with Page(config.status_addr, runner.jobs):
                await asyncio.wait([work, *waits], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            finished = work.done()
            work.cancel()
            await asyncio.gather(work, *waits, return_exceptions=True)
        if finished:
            return work.result()
        if stop.is_set():
            return exits.STOPPED
        reload.clear()
        try:
            config = load()
            journal.info("settings read again")
        except ClientError as error:
            journal.error(f"reload: {error}; the old settings stay")
