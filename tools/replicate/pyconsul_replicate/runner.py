"""Runs the jobs: retries, reload, stop, progress."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

from pyconsul_client.errors import ClientError
from pyconsul_client.tool import common, exits
from pyconsul_client.tool.backoff import Backoff
from pyconsul_client.tool.journal import Journal
from pyconsul_client.tool.notify import Notifier

from .buckets import MAX_PIECES
from .config import Config, Side
from .errors import RefusedError, SetupError
from .follow import Follower
from .job import MAX_PASSES, Job
from .lead import lead
from .page import Page
from .store import Store
from .twoway import TwoWay
from .wire import Agent

CONNECTIONS = 144
"""Of the 200 a server allows from one address, for watches of all jobs."""
PROGRESS_S = 0.1
DIFFERENT = 2
"""Exit status of a comparison that found differences."""


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
        self._sides = [
            (side, [self._job(at, side, progress) for at in range(len(config.pairs))])
            for side in config.destinations
        ]
        self.jobs = [job for _, jobs in self._sides for job in jobs]

    def _job(self, number: int, side: Side, progress: Progress) -> Job | TwoWay:
        config, pair = self._config, self._config.pairs[number]
        origin = config.source or Side(side.options)
        source = Agent(origin.options, pair.datacenter)
        destination = Agent(side.options, side.datacenter)
        self._agents += [source, destination]
        make = partial(TwoWay, policy=config.conflict) if config.conflict else Job
        job = make(
            pair,
            config.rules,
            # What is written at both sides is compared with what leaders say.
            Store(source, max_stale=0.0 if config.conflict else config.max_stale),
            Store(destination),
            config.job,
            self._journal,
            progress=progress,
        )
        job.counters.leading = config.election is None
        return job

    async def run(self) -> int:
        """Run to the end, which a daemon has not; return the exit status."""
        try:
            return max(await asyncio.gather(*map(self._side, range(len(self._sides)))))
        finally:
            for agent in self._agents:
                agent.close()

    async def _side(self, number: int) -> int:
        """Run the jobs of one destination, as its leader where one is chosen."""
        config, journal = self._config, self._journal
        side, jobs = self._sides[number]
        most = max(1, min(MAX_PIECES, CONNECTIONS // max(1, len(self.jobs))))

        async def work() -> int:
            found = await asyncio.gather(*(self._attend(job, most) for job in jobs))
            return max(found, default=exits.OK)

        election = config.election
        if election is None:
            return await work()
        tries = self._backoff()
        while True:
            try:
                return await lead(
                    election, side.options, side.datacenter, jobs, journal, work
                )
            except ClientError as error:
                pause = tries.failed(random.random())
                journal.error(f"{election.key}: {error}")
                # The lock's own tries are all that a run which ends has.
                if config.once or pause is None:
                    return exits.FAILED
                await asyncio.sleep(pause)

    async def _attend(self, job: Job | TwoWay, pieces: int) -> int:
        """Run one job with retries; return the exit status it is worth."""
        once = self._config.once
        tries = self._backoff()
        while True:
            try:
                await job.check()
                if once:
                    return await self._single(job)
                try:
                    await job.once()
                except RefusedError as error:
                    # What may be copied was; the rest waits for a decision.
                    job.counters.last_error = str(error)
                    self._journal.error(str(error))
                tries.reset()
                await job.check_loop()
                if isinstance(job, TwoWay):
                    await job.follow()
                else:
                    await Follower(job, pieces).run()
            except (RefusedError, SetupError) as error:
                self._journal.error(str(error))
                return exits.FAILED
            except ClientError as error:
                counters = job.counters
                counters.errors += 1
                counters.last_error = str(error)
                counters.behind_since = counters.behind_since or time.time()
                pause = tries.failed(random.random())
                final = pause is None or (once and not error.retryable)
                self._journal.error(f"{job.name}: {error}")
                if final:
                    return exits.FAILED
                assert pause is not None
                self._journal.warn(f"{job.name}: trying again in {pause:.2f} s")
                await asyncio.sleep(pause)

    async def _single(self, job: Job | TwoWay) -> int:
        """Copy once, or only look, as the settings say."""
        settings = job.settings
        if settings.dry_run:
            return exits.OK if await job.show() else DIFFERENT
        for _ in range(MAX_PASSES):
            if not settings.look_only:
                await job.once()
                await job.check_loop()
            if not settings.verify or await job.verify():
                return exits.OK
            if settings.look_only:
                break
        return DIFFERENT

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
    notifier = Notifier(os.environ)
    while True:
        runner = Runner(config, journal)
        work = asyncio.create_task(runner.run())
        waits = [asyncio.create_task(event.wait()) for event in (stop, reload)]
        signs = asyncio.create_task(
            notifier.keep_telling(partial(summary, runner.jobs))
        )
        try:
            async with Page(config.status_addr, runner.jobs):
                notifier.ready()
                await asyncio.wait([work, *waits], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*waits, signs):
                task.cancel()
            finished = work.done()
            work.cancel()
            await asyncio.gather(work, signs, *waits, return_exceptions=True)
        if finished or stop.is_set():
            notifier.stopping()
            return work.result() if finished else exits.STOPPED
        reload.clear()
        notifier.reloading()
        try:
            config = load()
            journal.info("settings read again")
        except ClientError as error:
            journal.error(f"reload: {error}; the old settings stay")


def summary(jobs: Sequence[Job | TwoWay]) -> str:
    """Return one line about the state of all jobs."""
    counters = [job.counters for job in jobs]
    if not all(one.leading for one in counters):
        return "standing by"
    keys = sum(one.source_keys for one in counters)
    refused = sum(one.refused_deletes for one in counters)
    behind = max((one.lag_seconds for one in counters), default=0.0)
    state = f"{behind:.0f} s behind" if behind else "up to date"
    opened = sum(one.open_conflicts for one in counters)
    more = f", {refused} deletes refused" if refused else ""
    more += f", {opened} conflicts open" if opened else ""
    return f"{len(jobs)} prefixes, {keys} keys, {state}{more}"
