"""The agent as its own HTTP client, without a socket: for its watches."""

from __future__ import annotations

import asyncio

from pyconsul.agent.watches import Answer
from pyconsul.http.errors import error_response
from pyconsul.http.face import Face
from pyconsul.http.routing import Response


class InnerHttp:
    """Asks a face what clients ask it; their limits do not count."""

    def __init__(self, face: Face) -> None:
        self._face = face

    async def get(self, target: str, token: str) -> Answer:
        """Return the answer to a ``GET``; errors of handlers are answers."""
        headers = {b"x-consul-token": token.encode()} if token else {}
        request = self._face.open("GET", target.encode(), headers)
        answer = self._face.answer(request)
        if isinstance(answer, Response):
            response = answer
        else:
            try:
                response = await answer
            except asyncio.CancelledError:
                raise
            except Exception as error:
                response = error_response(error)
        return Answer(response.status, _headers(response.headers), response.body)


def _headers(lines: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines.decode("latin-1").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            found[name.strip().lower()] = value.strip()
    return found
