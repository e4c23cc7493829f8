"""The desk: hands queries to annotators and takes their answers. Every front end works through it.

A query is *leased* to whom it is shown, so that two people are not asked the same unless that is meant. The lease has
a token, which becomes the uid of the comparison: sent twice, an answer counts once.
"""

from __future__ import annotations

import time as clock
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Literal, overload

import numpy as np
import sqlalchemy as sa

from prefgym import database as db
from prefgym import rows as sql
from prefgym.comparisons import Answer
from prefgym.labelling import rankings as ranked
from prefgym.labelling.candidates import Kind
from prefgym.labelling.dealing import Dealer
from prefgym.labelling.leases import Leases
from prefgym.labelling.tickets import (
    MAX_SECONDS,
    AnyTicket,
    Choice,
    RankingTicket,
    StaleTicketError,
    Ticket,
    check_annotator,
    check_seconds,
)
from prefgym.rows import Row
from prefgym.segments import Segment
from prefgym.store import ANSWERED, OPEN, Store

__all__ = [
    "MAX_SECONDS",
    "AnyTicket",
    "Choice",
    "Desk",
    "RankingTicket",
    "StaleTicketError",
    "Ticket",
    "check_annotator",
]


RECENT = 256
"""Segments kept in memory: what is asked for again, with the next query, need not be read and checked again."""


class Desk:
    """Hands queries out, each with its sides by lot, and takes answers back; for any number of processes at once.

    Args:
        store: where queries come from and answers go.
        lease: seconds for which nobody else is given a query that is shown; asking for tickets renews it, once less
            than half of it is left.
        second: share of the tickets, in [0, 1], that are somebody else's answered queries: to see whether they agree.
        repeat: share of the tickets that are the annotator's own answered queries: to see whether they stay the same.
        seed: of the sides and shares; None for a different one each time.
        time: seconds since 1970.
    """

    def __init__(
        self,
        store: Store,
        *,
        lease: float = 120.0,
        second: float = 0.1,
        repeat: float = 0.03,
        seed: int | None = None,
        time: Callable[[], float] = clock.time,
    ) -> None:
        for name, share in {"second": second, "repeat": repeat}.items():
            if not 0 <= share <= 1:
                raise ValueError(f"`{name}` must be a share in [0, 1], got {share}")
        if not lease > 0:
            raise ValueError(f"`lease` must be more than 0 seconds, got {lease}")
        self.store = store
        self._time = time
        self._recent: deque[Segment] = deque(maxlen=RECENT)
        self._leases = Leases(store, lease, time)
        shares = {Kind.REPEAT: repeat, Kind.SECOND: second}
        self._dealer = Dealer(store.reader, self._leases, shares, np.random.default_rng(seed), time)

    @overload
    def tickets(self, annotator: str, count: int = 1, *, rankings: Literal[False] = False) -> list[Ticket]: ...

    @overload
    def tickets(self, annotator: str, count: int = 1, *, rankings: bool) -> list[AnyTicket]: ...

    def tickets(self, annotator: str, count: int = 1, *, rankings: bool = False) -> Sequence[AnyTicket]:
        """The queries that are an annotator's now, at most `count`, the one to show first; [] if there is none.

        Those handed out before and not answered yet come again, and stay the annotator's for at least half a lease; so
        whoever asks for two has the next one ready, and whoever reloads a page sees what it showed.

        Args:
            annotator: who is to answer.
            count: how many.
            rankings: whether all pairs of several responses to one prompt may be asked as one `RankingTicket`.
        """
        name = check_annotator(annotator)
        with self.store.database.writing() as connection:
            held = self._bundles(self._leases.held(connection, name), rankings)[:count]
            self._leases.renew(connection, chain.from_iterable(held))
            dealt = self._dealer.deal(connection, name, count - len(held), rankings)
            return self._tickets(connection, [*held, *dealt])

    def answer(self, token: str, choice: Choice | str, *, annotator: str, seconds: float = 0.0) -> int:
        """Takes an answer and returns the comparison's id; sent again with the same token it returns the same.

        Raises:
            StaleTicketError: somebody else has answered it after the lease had ended, the same annotator has given
                another answer to it (at a second page of theirs), or the token is not known.
            ValueError: an unknown choice, a bad name, or seconds that are not a number of at least 0.
        """
        name, choice, seconds = check_annotator(annotator), Choice(choice), check_seconds(seconds)
        with self.store.database.writing() as connection:
            leases = self._leases.take(connection, [token], name)
            if leases:
                return self._record(connection, leases, [choice], seconds)[0]
            return self._repeated(self._said(connection, [token], name), [choice])[0]

    def rank(self, token: str, ranks: Sequence[int] | None, *, annotator: str, seconds: float = 0.0) -> list[int]:
        """Takes the answer to a `RankingTicket`, and returns the ids of the C(K, 2) comparisons that it becomes.

        All of them are stored, or none; sent again with the same token it returns the same.

        Args:
            token: of the ticket.
            ranks: [K] of the responses as they were shown, 0 the best; equal ranks are ties. None: cannot tell.
            annotator: who says so.
            seconds: what it took in all; each comparison gets its share.

        Raises:
            StaleTicketError: as of `answer`, if that holds for any of the pairs.
            ValueError: ranks that do not fit, a bad name, or seconds that are not a number of at least 0.
        """
        name, seconds = check_annotator(annotator), check_seconds(seconds)
        with self.store.database.writing() as connection:
            tokens = ranked.tokens_of(token)
            if not tokens:
                raise StaleTicketError(self.store.name, "this ranking is no longer yours to give")
            ranks = ranked.check_ranks(ranks, ranked.responses_of(tokens))
            leases = self._leases.take(connection, tokens, name)
            rows = leases if len(leases) == len(tokens) else self._said(connection, tokens, name)
            queries = sql.fetch(connection, db.queries.c.id, [row["query_id"] for row in rows])
            choices = ranked.choices(rows, queries, ranks)
            if rows is leases:
                return self._record(connection, rows, choices, seconds / len(rows))
            return self._repeated(rows, choices)

    def undo(self, annotator: str, *, rankings: bool = False) -> AnyTicket | None:
        """Takes back an annotator's last answer, a ranking as a whole, and hands its queries out again.

        Args:
            annotator: whose.
            rankings: whether a ranking comes again as one; else it comes as pairs.

        Returns:
            What is to be shown now; None if there was no answer left.
        """
        name, now = check_annotator(annotator), self._time()
        with self.store.database.writing() as connection:
            rows = self._last(connection, name)
            if not rows:
                return None
            facts = {"answer": Answer.UNDONE.value, "annotator": name, "time": now, "seconds": 0.0}
            undone = [{**_asked(row), "uid": sql.new_uid(), **facts} for row in rows]
            sql.insert(connection, db.comparisons, undone)
            place = self._leases.first_given(connection, name) - 1.0  # shown before what waits already
            tokens = ranked.new_tokens(len(rows)) if len(rows) > 1 else [sql.new_uid()]
            again = [
                {**query, "flipped": row["flipped"], "given": place, "token": token}
                for query, row, token in zip(self._reopened(connection, rows), rows, tokens, strict=True)
            ]
            return self._tickets(connection, self._bundles(self._leases.give(connection, name, again), rankings))[0]

    def release(self, annotator: str, *, after: float = 0.0) -> None:
        """Gives back what an annotator has not answered: somebody who leaves keeps nobody from it.

        Args:
            annotator: who leaves.
            after: seconds for which it stays theirs, should they come back at once, as by a reload; asking for
                tickets then renews the leases. At 0 the tickets are void.

        Raises:
            ValueError: `after` is not a number of at least 0, or a bad name.
        """
        if not after >= 0:
            raise ValueError(f"`after` must be at least 0 seconds, got {after}")
        mine = db.leases.c.annotator == check_annotator(annotator)
        until = self._time() + after
        ends_sooner = sa.update(db.leases).where(mine, db.leases.c.until > until).values(until=until)
        with self.store.database.writing() as connection:
            connection.execute(ends_sooner if after else sa.delete(db.leases).where(mine))

    # What is handed out.

    def _bundles(self, leases: Sequence[Row], rankings: bool) -> list[list[Row]]:
        return ranked.bundles(leases) if rankings else [[lease] for lease in leases]

    def _tickets(self, connection: sa.Connection, bundles: Sequence[Sequence[Row]]) -> list[AnyTicket]:
        segments = self.store.reader.segments(connection, chain.from_iterable(bundles))
        self._recent.extend(segments.values())  # the reader shares what somebody holds
        return [self._ticket(bundle, segments) for bundle in bundles]

    def _ticket(self, bundle: Sequence[Row], segments: Mapping[int, Segment]) -> AnyTicket:
        one, *others = bundle
        if others:
            shown = ranked.order(bundle, {lease["query_id"]: lease for lease in bundle})
            ids = tuple(lease["query_id"] for lease in bundle)
            return RankingTicket(one["token"], ids, tuple(segments[id_] for id_ in shown))
        query = self.store.reader.query(one, segments)
        return Ticket(one["token"], one["query_id"], query, bool(one["flipped"]), Kind(one["kind"]))

    # What is said.

    def _said(self, connection: sa.Connection, tokens: Sequence[str], annotator: str) -> list[Row]:
        """The comparisons that answers with these tokens, which could not be taken, have become before; in order.

        Raises:
            StaleTicketError: they have not, or only some, or of somebody else.
        """
        found = sql.fetch(connection, db.comparisons.c.uid, tokens)
        if not found or any(row["annotator"] != annotator for row in found.values()):
            raise self._leases.refusal(connection, tokens, annotator)
        if len(found) < len(tokens):
            raise StaleTicketError(self.store.name, "a part of this ranking was answered already")
        return [found[token] for token in tokens]

    def _repeated(self, said: Sequence[Row], choices: Sequence[Choice]) -> list[int]:
        """Ids of the comparisons that an answer became when it came first."""
        for row, choice in zip(said, choices, strict=True):
            if row["answer"] != choice.answer(row["flipped"]).value:
                raise StaleTicketError(self.store.name, "you have given another answer to this query already")
        return [row["id"] for row in said]

    def _record(
        self, connection: sa.Connection, leases: Sequence[Row], choices: Sequence[Choice], seconds: float
    ) -> list[int]:
        """Makes comparisons of leases that have ended, and returns their ids."""
        facts = {"time": self._time(), "seconds": seconds}
        rows = [
            {**_asked(one), "uid": one["token"], "answer": choice.answer(one["flipped"]).value, **facts}
            for one, choice in zip(leases, choices, strict=True)
        ]
        sql.set_state(connection, [lease["query_id"] for lease in leases if lease["state"] != ANSWERED], ANSWERED)
        return sql.insert(connection, db.comparisons, rows)

    def _last(self, connection: sa.Connection, annotator: str) -> list[Row]:
        """The annotator's last answer that counts: one comparison, or those of one ranking."""
        table = db.comparisons
        mine = sa.select(table).where(table.c.annotator == annotator, sql.is_current())
        row = connection.execute(mine.order_by(table.c.id.desc()).limit(1)).mappings().first()
        tokens = ranked.tokens_of(row["uid"]) if row else []
        together = mine.where(table.c.uid.in_(tokens)).order_by(table.c.id)
        found = connection.execute(together).mappings().all() if tokens else []
        return list(found) if len(found) == len(tokens) > 0 else [row] if row else []

    def _reopened(self, connection: sa.Connection, rows: Sequence[Row]) -> list[dict]:
        """The queries of answers that were taken back, open again unless others have answered them, each with the
        `kind` that says why it is to be shown.
        """
        ids, said = [row["query_id"] for row in rows], db.comparisons.c.query_id
        others = set(connection.scalars(sa.select(said).where(said.in_(ids), sql.is_current())))
        sql.set_state(connection, set(ids) - others, OPEN)
        queries = sql.fetch(connection, db.queries.c.id, ids)
        return [{**queries[id_], "kind": (Kind.SECOND if id_ in others else Kind.NEW).value} for id_ in ids]


def _asked(row: Row) -> dict:
    """Of a lease or a comparison: what was shown to whom, and how."""
    return {name: row[name] for name in ("query_id", "annotator", "flipped")}
