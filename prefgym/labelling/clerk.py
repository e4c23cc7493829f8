"""The clerk: whatever a labelling window wants from the disk, done in a thread, so that drawing never waits for it."""

from __future__ import annotations

import logging
import threading
import time as clock
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from prefgym.envs.frames import OpenGLError
from prefgym.labelling.desk import AnyTicket, Choice, Desk, StaleTicketError, check_annotator
from prefgym.labelling.facts import Facts
from prefgym.labelling.films import Films
from prefgym.live import Live
from prefgym.pause import Pause
from prefgym.runs import Run, RunError
from prefgym.store import StoreError
from prefgym.text import is_text

logger = logging.getLogger(__name__)

PREFETCH = 3
"""Tickets at hand: the one shown, and the next two."""

RETRY = 0.5
"""Seconds after which the store is tried again."""

LOOK = 1.0
"""Seconds between two looks at the statistics and at training."""

RENEW = 20.0
"""Seconds after which leases are renewed: often enough for the desk's 120 seconds."""


class UnsavedAnswersError(StoreError):
    """The window was closed although the store did not take the last answers."""

    advice = "They will be asked again."


Said = Choice | Sequence[int] | None
"""An answer: a choice, or the ranks of a ranking, None for those if the person cannot tell."""

Job = tuple[str, Callable[[], None]]


class Clerk:
    """Fetches tickets, brings answers to the store, and looks at how training goes.

    Jobs are done in the order they are given. One that the store refuses is kept and tried again. What the clerk knows
    is read by the window's thread as whole attributes, which are replaced and never changed.

    Args:
        desk: hands out tickets, takes answers.
        annotator: who answers.
        run: folder of the training run; None if there is none to look at.
        training: says in a sentence what is wrong with the training process, "" if nothing is.
        time: seconds since 1970.

    Attributes:
        tickets: the first one is to be shown.
        films: how the robots of the tickets are drawn, and clips drawn ahead of time.
        env_id: environment of the run; "" while that is not known.
        facts: the latest statistics.
        paused: whether training is asked to pause.
        notices: sentences for the person, to be taken out and shown.
        stored: answers that the store took, less those that were taken back.
        error: what ended the thread, if it did not end in peace.
        closed: whether the thread has ended.
    """

    def __init__(
        self,
        desk: Desk,
        annotator: str = "human",
        *,
        run: Path | None = None,
        training: Callable[[], str] | None = None,
        time: Callable[[], float] = clock.time,
    ) -> None:
        self.desk, self.annotator, self.run = desk, check_annotator(annotator), run
        self.tickets: list[AnyTicket] = []
        self.films = Films()
        self.env_id, self.facts, self.stored = "", Facts(), 0
        self._pause = Pause(run)
        self.paused = bool(self._pause.asked)
        self.notices: deque[str] = deque()
        self.error: Exception | None = None
        self._training, self._time = training, time
        self._jobs: deque[Job] = deque()
        self._problems: dict[str, StoreError] = {}
        self._answers, self._settled = 0, 0
        self._undos, self._undone, self._redealt = 0, 0, 0
        self._order: list[str] = []  # tokens, the one to show first
        self._deal_at, self._look_at = 0.0, 0.0
        self._closing, self._given_up, self.closed = False, False, False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="clerk", daemon=True)

    # Asked by the window; see `hurry`.

    def answer(self, token: str, said: Said, seconds: float) -> None:
        """Bring an answer to the store."""
        self._answers += 1
        self._jobs.append(("answer", partial(self._answer, token, said, seconds)))

    def undo(self) -> None:
        """Take back the last answer."""
        self._undos += 1
        self._jobs.append(("undo", self._undo))

    def toggle_pause(self) -> None:
        """Ask training to pause, or to go on."""
        if self.run is None:
            self.notices.append("There is no training here to pause.")
            return
        self.paused = not self.paused
        self._jobs.append(("pause", partial(self._ask_pause, self.paused)))

    @property
    def waiting(self) -> int:
        """Answers that the store does not have yet."""
        return self._answers - self._settled

    @property
    def undoing(self) -> bool:
        """Whether the tickets are from before an undo that was asked for."""
        return self._undos != self._redealt

    @property
    def problem(self) -> str:
        """Why the store does not work; "" while it does."""
        return next((str(error) for error in list(self._problems.values())), "")

    def hurry(self) -> None:
        """Do what was asked for now; called once the picture is drawn, as two busy threads slow each other down."""
        if self._jobs:
            self._wake.set()

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def close(self) -> None:
        """End once everything is done; takes nothing more."""
        self._closing = True
        self._wake.set()

    def give_up(self) -> None:
        """End now, even though answers would be lost."""
        self._given_up = True
        self.close()

    def join(self) -> None:
        """Wait until the clerk has ended; training goes on then, if it was paused.

        Raises:
            UnsavedAnswersError: it was told to give up, and had answers left.
        """
        try:
            self._thread.join(1.0 if self._given_up else None)  # the store may hold on to a write for half a minute
        finally:
            self._pause.end()
        if self.error is not None:
            raise self.error
        if self.waiting:
            answers = "1 answer was" if self.waiting == 1 else f"{self.waiting} answers were"
            raise UnsavedAnswersError(self.desk.store.name, f"{answers} not saved ({self.problem})")

    # The clerk's own thread.

    def _run(self) -> None:
        try:
            try:
                self._serve()
            finally:
                self._leave()
        except Exception as error:  # raised again in the window's thread, see `join`
            self.error = error
        self.closed = True

    def _serve(self) -> None:
        while not self._given_up and (self._jobs or not self._closing):
            pause = self.work()
            if self._jobs or not self._closing:
                self._wake.wait(pause)
                self._wake.clear()

    def work(self) -> float:
        """Do what is due, and return the seconds until there is more to do."""
        while self._jobs and not self._given_up:
            if not self._manages(*self._jobs[0]):
                return RETRY
            self._jobs.popleft()
            self._look_at = 0.0
            self._manages("deal", self._deal)
        if self._time() >= self._deal_at:
            self._manages("deal", self._deal)
        if self._time() >= self._look_at:
            self._manages("look", self._look)
        if self._film():
            return 0.0
        return max(0.0, min(self._deal_at, self._look_at) - self._time())

    def _film(self) -> bool:
        """Make one clip, if one is wanted; returns whether there may be more. One at a time, as answers go first."""
        try:
            return self.films.make(self.tickets, self.facts.live, self.env_id)
        except OpenGLError as error:
            self.notices.append(str(error))
            return False

    def _manages(self, name: str, job: Callable[[], None]) -> bool:
        try:
            job()
        except StoreError as error:
            logger.debug("%s: %s", name, error)
            self._problems = {**self._problems, name: error}
            self._deal_at, self._look_at = (max(at, self._time() + RETRY) for at in (self._deal_at, self._look_at))
            return False
        self._problems = {other: error for other, error in self._problems.items() if other != name}
        return True

    def _answer(self, token: str, said: Said, seconds: float) -> None:
        try:
            if isinstance(said, Choice):
                self.desk.answer(token, said, annotator=self.annotator, seconds=seconds)
            else:
                self.desk.rank(token, said, annotator=self.annotator, seconds=seconds)
            self.stored += 1
        except StaleTicketError:
            self.notices.append("Somebody else has answered that one meanwhile: here is another.")
        self._settled += 1

    def _undo(self) -> None:
        ticket = self.desk.undo(self.annotator, rankings=True)
        if ticket is None:
            self.notices.append("There is nothing left to undo.")
        else:
            self._order = [ticket.token, *self._order]
            self.stored = max(0, self.stored - 1)
        self._undone += 1

    def _ask_pause(self, paused: bool) -> None:
        try:
            self._pause.ask(paused)
        except OSError as error:
            self.paused = not paused
            self.notices.append(f"Training cannot be told to {'pause' if paused else 'go on'}: {error}")

    def _deal(self) -> None:
        """Fetch tickets, which keep the order they were seen in; who has none looks often, so as to see one soon."""
        undone, place = self._undone, {token: number for number, token in enumerate(self._order)}
        tickets = self.desk.tickets(self.annotator, PREFETCH, rankings=True)
        tickets.sort(key=lambda ticket: place.get(ticket.token, len(place)))
        for env_id in {one.env_id for ticket in tickets for one in ticket.segments if not is_text(one)}:
            self.films.know(env_id)
        self.tickets, self._redealt = tickets, undone
        self._order = [ticket.token for ticket in tickets]
        self._deal_at = self._time() + (RENEW if len(tickets) >= PREFETCH else 1.0 if tickets else 0.2)

    def _look(self) -> None:
        entries = self.desk.store.ledger()
        self.facts = Facts.of(entries, self.annotator, self._time(), *self._look_at_training())
        self._look_at = self._time() + LOOK

    def _look_at_training(self) -> tuple[Live | None, str]:
        if self.run is None:
            return None, self._training() if self._training else ""
        if not self.env_id and (env_id := _env_id(self.run)):
            self.films.know(env_id)
            self.env_id = env_id
        if not self._jobs:
            self.paused = bool(self._pause.asked)
        return Live.read(self.run), self._training() if self._training else ""

    def _leave(self) -> None:
        """Others may answer what is left."""
        if self._given_up:  # the store does not work: why wait for it again
            return
        try:
            self.desk.release(self.annotator)
        except StoreError as error:
            logger.debug("leases are left to lapse: %s", error)


def _env_id(run: Path) -> str:
    try:
        return str(Run.open(run).options.get("env_id", ""))
    except RunError:
        return ""
