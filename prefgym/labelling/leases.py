"""Leases: which query is being shown to whom, and until when nobody else is asked it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa

from prefgym import database as db
from prefgym.labelling.candidates import ANNOTATOR, NOW, Kind, finder
from prefgym.labelling.tickets import StaleTicketError
from prefgym.rows import Row
from prefgym.store import OPEN, Store

RENEW_BELOW = 0.5
"""Share of its time that a lease has left when it is renewed: to renew it at each look would only be work."""


class Leases:
    """The rows of one store's table of leases, within transactions of the desk.

    Args:
        store: where they are.
        seconds: for which one lasts.
        time: seconds since 1970.
    """

    def __init__(self, store: Store, seconds: float, time: Callable[[], float]) -> None:
        self.store, self.seconds, self._time = store, seconds, time

    def held(self, connection: sa.Connection, annotator: str) -> list[Row]:
        """The annotator's leases, each with the columns of its query, the first to show first.

        Lapsed ones too, unless somebody else has stepped in: those are dropped.
        """
        rows = connection.execute(_held(), {"annotator": annotator, "now": self._time()}).mappings().all()
        self._drop(connection, [row["token"] for row in rows if row["lost"]])
        return [row for row in rows if not row["lost"]]

    def find(
        self, connection: sa.Connection, kind: Kind, annotator: str, count: int, without: Collection[int] = ()
    ) -> Sequence[Row]:
        """At most so many queries that the annotator may be asked; without: ids of those that may not be."""
        if not count:
            return []
        wanted = {"annotator": annotator, "now": self._time(), "count": count, "without": list(without)}
        return connection.execute(finder(kind), wanted).mappings().all()

    def give(self, connection: sa.Connection, annotator: str, rows: Iterable[Row]) -> list[Row]:
        """New leases; rows: of queries, each with what is to be the lease's `kind`, `flipped`, `given` and `token`."""
        until, names = self._time() + self.seconds, db.leases.c.keys()
        leases: list[Row] = [{**row, "query_id": row["id"], "annotator": annotator, "until": until} for row in rows]
        if leases:
            values = [{name: lease[name] for name in names} for lease in leases]
            connection.execute(sa.insert(db.leases), values)
        return leases

    def renew(self, connection: sa.Connection, leases: Iterable[Row]) -> None:
        """Those that run low last from now."""
        now = self._time()
        low = [lease["token"] for lease in leases if lease["until"] < now + RENEW_BELOW * self.seconds]
        if low:
            connection.execute(_renewed(), {"tokens": low, "later": now + self.seconds})

    def take(self, connection: sa.Connection, tokens: Sequence[str], annotator: str) -> list[Row]:
        """Ends the annotator's leases with these tokens, unless somebody else has stepped in.

        Returns:
            Those that there were, in the order of the tokens, each with the `state` of its query.
        """
        wanted = {"tokens": list(tokens), "annotator": annotator, "now": self._time()}
        found = {row["token"]: row for row in connection.execute(_taken(), wanted).mappings()}
        return [found[token] for token in tokens if token in found]

    def refusal(self, connection: sa.Connection, tokens: Sequence[str], annotator: str) -> StaleTicketError:
        """Why not all of these tokens could be taken."""
        mine = db.leases.c.token.in_(tokens) & (db.leases.c.annotator == annotator)
        one = sa.select(db.leases.c.token).where(mine, _is_lost()).limit(1)
        lost = connection.scalar(one, {"now": self._time()}) is not None
        somebody = "somebody else has answered this query meanwhile"
        return StaleTicketError(self.store.name, somebody if lost else "this query is no longer yours to answer")

    def first_given(self, connection: sa.Connection, annotator: str) -> float:
        """When the oldest of the annotator's leases was given; now if there is none."""
        given = sa.select(sa.func.min(db.leases.c.given)).where(db.leases.c.annotator == annotator)
        return connection.scalar(given) or self._time()

    def _drop(self, connection: sa.Connection, tokens: Sequence[str]) -> None:
        if tokens:
            connection.execute(sa.delete(db.leases).where(db.leases.c.token.in_(tokens)))


# Statements, put together once; `annotator`, `now` and `tokens` are given with them.

_TOKENS = db.leases.c.token.in_(sa.bindparam("tokens", expanding=True))


@cache
def _held() -> sa.Select:
    table = db.leases
    wanted = sa.select(table, db.queries, (_is_lost() | _is_answered()).label("lost")).join_from(table, db.queries)
    return wanted.where(table.c.annotator == ANNOTATOR).order_by(table.c.given, table.c.token)


@cache
def _taken() -> Any:
    mine = _TOKENS & (db.leases.c.annotator == ANNOTATOR) & ~_is_answered() & ~_is_lost()
    return sa.delete(db.leases).where(mine).returning(db.leases, _state().label("state"))


@cache
def _renewed() -> sa.Update:
    return sa.update(db.leases).where(_TOKENS).values(until=sa.bindparam("later"))


def _is_lost() -> sa.ColumnElement[bool]:
    """Condition: lapsed, and somebody else has answered, or is being shown, its query; or that was taken back."""
    table, other = db.leases, db.leases.alias()
    same = (other.c.query_id == table.c.query_id) & (other.c.token != table.c.token)
    gone = (_state() != OPEN) | sa.exists().where(same).correlate(table)
    return (table.c.until < NOW) & (table.c.kind == Kind.NEW.value) & gone


def _state() -> sa.ScalarSelect[str]:
    """The state of a lease's query."""
    found = sa.select(db.queries.c.state).where(db.queries.c.id == db.leases.c.query_id)
    return found.correlate(db.leases).scalar_subquery()


def _is_answered() -> sa.ColumnElement[bool]:
    """Condition: a lease has been answered, by way of a copy of the store that was merged since."""
    return sa.exists().where(db.comparisons.c.uid == db.leases.c.token).correlate(db.leases)
