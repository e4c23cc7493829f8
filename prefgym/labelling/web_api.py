"""The JSON API of the labelling page, as docs/api.md tells it."""

from __future__ import annotations

import hashlib
import logging
from asyncio import get_running_loop
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from prefgym.labelling import web_fields as field
from prefgym.labelling.desk import Choice, Desk, StaleTicketError
from prefgym.labelling.web_clips import Clips
from prefgym.labelling.web_dashboard import Dashboard
from prefgym.labelling.web_fields import Fields, body, checked, parsed
from prefgym.labelling.web_guard import Pace, refusal, reply
from prefgym.pause import NoRunError
from prefgym.store import StoreError

logger = logging.getLogger(__name__)

Act = Callable[..., Response]
Endpoint = Callable[[Request], Awaitable[Response]]


class Api:
    """Endpoints that hand out tickets, take answers and tell how it goes.

    Args:
        desk: of the store.
        board: of the same store.
        pace: how often one annotator at one address may ask.
    """

    def __init__(self, desk: Desk, board: Dashboard, pace: Pace) -> None:
        self.desk, self.board, self.pace = desk, board, pace
        self.clips = Clips()
        self.store = hashlib.sha256(desk.store.name.encode(errors="surrogateescape")).hexdigest()[:12]
        # One writes at a time, in order: SQLite lets writers try again after pauses, in which others overtake them.
        self._writer = ThreadPoolExecutor(1, "desk")

    def routes(self) -> list[Route]:
        """All that begins with /api/."""
        person: Fields = {"annotator": field.annotator}
        wanted = {**person, "count": field.count, "rankings": field.asked, "known": field.known}
        said = {**person, "seconds": field.seconds}
        chosen = {"token": field.token, "choice": field.choice, **said}
        ranked = {"token": field.token, "ranks": field.ranks, **said}
        undone: Fields = {**person, "rankings": partial(field.truth, "rankings")}
        left: Fields = {**person, "after": field.after}
        paused: Fields = {**person, "paused": partial(field.truth, "paused")}
        usual = {"count": "1", "rankings": "0", "known": ""}
        return [
            Route("/api/tickets", self._asked(self.tickets, wanted, usual, self._writer)),
            Route("/api/answers", self._told(self.answer, chosen, {"seconds": 0.0}), methods=["POST"]),
            Route("/api/rankings", self._told(self.rank, ranked, {"seconds": 0.0}), methods=["POST"]),
            Route("/api/undo", self._told(self.undo, undone, {"rankings": False}), methods=["POST"]),
            Route("/api/release", self._told(self.release, left, {"after": 0.0}), methods=["POST"]),
            Route("/api/pause", self._told(self.pause, paused), methods=["POST"]),
            Route("/api/dashboard", self._asked(self.dashboard)),
            Route("/api/live", self._asked(self.live)),
        ]

    # What they do, in a thread that may wait for the store.

    def tickets(self, annotator: str, count: int, rankings: bool, known: frozenset[str]) -> Response:
        """The queries that an annotator is to answer, the one to show first; of those known, the tokens alone."""
        tickets = self.desk.tickets(annotator, count, rankings=rankings)
        texts = ",".join(
            f'{{"token":"{one.token}"}}' if one.token in known else self.clips.ticket(one) for one in tickets
        )
        return reply(f'{{"store":"{self.store}","tickets":[{texts}]}}')

    def answer(self, token: str, choice: Choice, annotator: str, seconds: float) -> Response:
        """Takes an answer."""
        return reply({"id": self.desk.answer(token, choice, annotator=annotator, seconds=seconds)})

    def rank(self, token: str, ranks: Sequence[int] | None, annotator: str, seconds: float) -> Response:
        """Takes a ranking."""
        try:
            return reply({"ids": self.desk.rank(token, ranks, annotator=annotator, seconds=seconds)})
        except ValueError as error:  # only the store knows how many there must be
            raise HTTPException(422, str(error)) from error

    def undo(self, annotator: str, rankings: bool) -> Response:
        """Takes back the annotator's last answer."""
        ticket = self.desk.undo(annotator, rankings=rankings)
        return reply(f'{{"ticket":{self.clips.ticket(ticket) if ticket else "null"}}}')

    def release(self, annotator: str, after: float) -> Response:
        """Gives back what the annotator has not answered, unless they are back in so many seconds."""
        self.desk.release(annotator, after=after)
        return reply({})

    def pause(self, annotator: str, paused: bool) -> Response:
        """Asks training to pause, or to go on."""
        try:
            self.board.pause.ask(paused)
        except NoRunError as error:
            raise HTTPException(404, str(error)) from error
        except OSError as error:
            logger.warning("training cannot be told to %s: %s", "pause" if paused else "go on", error)
            problem = "Training cannot be told: its folder cannot be written."
            raise HTTPException(503, problem, {"retry-after": "1"}) from error
        logger.info("training is asked to %s by %s", "pause" if paused else "go on", annotator)
        return reply({"paused": paused})

    def dashboard(self) -> Response:
        """Statistics."""
        return reply(self.board.statistics())

    def live(self) -> Response:
        """What the robot does now."""
        return reply(self.board.live())

    # How they are called.

    def _asked(
        self, act: Act, wanted: Fields | None = None, usual: Mapping | None = None, thread: Executor | None = None
    ) -> Endpoint:
        """An endpoint that takes its fields from the query of the URL."""

        async def endpoint(request: Request) -> Response:
            given = {name: value for name, value in request.query_params.items() if name != "token"}
            return await self._act(request, partial(act, **checked(given, wanted or {}, usual or {})), thread)

        return endpoint

    def _told(self, act: Act, wanted: Fields, usual: Mapping | None = None) -> Endpoint:
        """An endpoint that takes its fields from a JSON object, and writes."""

        async def endpoint(request: Request) -> Response:
            fields = checked(parsed(await body(request)), wanted, usual or {})
            return await self._act(request, partial(act, **fields), self._writer)

        return endpoint

    async def _act(self, request: Request, act: partial[Response], thread: Executor | None) -> Response:
        address = request.client.host if request.client else ""
        refused = self.pace.refusal((address, act.keywords.get("annotator")))
        if refused is not None:
            return refused
        return await get_running_loop().run_in_executor(thread, act)


# Errors.


async def refused(_request: Request, error: Exception) -> Response:
    """What the API says to a request that cannot be granted."""
    assert isinstance(error, HTTPException)
    return refusal(error.status_code, error.detail, error.headers)


async def stale(_request: Request, error: Exception) -> Response:
    """What it says to an answer that comes too late; without the store's path, which is nobody's business."""
    assert isinstance(error, StaleTicketError)
    return refusal(409, f"{error.args[1][:1].upper()}{error.args[1][1:]}. {error.advice}")


async def unavailable(_request: Request, error: Exception) -> Response:
    """What it says while the store cannot be read or written."""
    logger.warning("%s", error)
    return refusal(503, "The store does not work just now: try again in a moment.", {"retry-after": "1"})


async def broken(_request: Request, _error: Exception) -> Response:
    """What it says when it is itself at fault; the log says more."""
    return refusal(500, "Something is wrong with this server; its log says what.")


ERRORS = {HTTPException: refused, StaleTicketError: stale, StoreError: unavailable, Exception: broken}
