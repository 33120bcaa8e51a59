"""Futures chained without tasks."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable
from typing import Any

from pyconsul.types.errors import CommandError
from pyconsul.types.messages import Reply


def then(
    source: Future[Any],
    convert: Callable[[Any], Reply | Future[Reply]],
    *,
    refusal: str = "",
) -> Future[Reply]:
    """Return a future of ``convert(result)``; errors pass through.

    ``refusal`` is put before the text of a command that was refused.

    Cancelling the returned future leaves ``source`` alone, and ``convert`` runs
    all the same: a proposed command commits whether or not its client listens.
    """
    target: Future[Reply] = source.get_loop().create_future()

    def finish(done: Future[Any]) -> None:
        if done.cancelled():
            target.cancel()
            return
        error = done.exception()
        if error is not None:
            if refusal and isinstance(error, CommandError):
                error = CommandError(f"{refusal}{error}")
            _fail(target, error)
            return
        try:
            result = convert(done.result())
        except Exception as failure:
            _fail(target, failure)
            return
        if isinstance(result, Future):
            follow(result, target)
        elif not target.done():
            target.set_result(result)

    source.add_done_callback(finish)
    return target


def follow(source: Future[Reply], target: Future[Reply]) -> None:
    """Give ``target`` the outcome of ``source``, and ``source`` its cancellation."""

    def copy(done: Future[Reply]) -> None:
        if target.done():
            if not done.cancelled():
                done.exception()
            return
        if done.cancelled():
            target.cancel()
            return
        error = done.exception()
        if error is not None:
            target.set_exception(error)
        else:
            target.set_result(done.result())

    def cancel(done: Future[Reply]) -> None:
        if done.cancelled():
            source.cancel()

    source.add_done_callback(copy)
    target.add_done_callback(cancel)


def _fail(target: Future[Reply], error: BaseException) -> None:
    if not target.done():
        target.set_exception(error)
