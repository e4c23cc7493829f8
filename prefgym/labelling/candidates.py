"""Which queries somebody may be asked next, as SQL: open ones, or those that were answered already.

The statements are put together once, as that takes longer than to carry them out; what differs is given with them.
"""

from __future__ import annotations

import enum
from functools import cache

import sqlalchemy as sa

from prefgym import database as db
from prefgym import rows as sql
from prefgym.store import ANSWERED, OPEN

REPEAT_AFTER = 10
"""Answers that somebody gives between a query and its repetition."""


ANNOTATOR: sa.BindParameter[str] = sa.bindparam("annotator")
NOW: sa.BindParameter[float] = sa.bindparam("now")
"""What every statement here is given: who is asked, and seconds since 1970."""


class Kind(enum.StrEnum):
    """Why a query is shown."""

    NEW = "new"
    SECOND = "second"
    """Somebody else has answered it: do the two agree?"""
    REPEAT = "repeat"
    """The same person has answered it: will it be the same again?"""


@cache
def unanswered() -> sa.Select:
    """Open queries that are being shown to nobody, the oldest first; never one that the annotator has."""
    return _free().where(db.queries.c.state == OPEN).order_by(db.queries.c.id)


@cache
def second() -> sa.Select:
    """Queries that one other person has answered, and nobody is being shown, the newest first."""
    table, said = db.queries, db.comparisons
    people = sa.select(sa.func.count()).where(said.c.query_id == table.c.id, sql.is_current())
    mine = sa.exists().where((said.c.query_id == table.c.id) & (said.c.annotator == ANNOTATOR))
    chosen = _free().where(table.c.state == ANSWERED, ~mine, people.scalar_subquery() == 1)
    return chosen.order_by(table.c.id.desc())


@cache
def repeat() -> sa.Select:
    """Queries that the annotator answered once, at least `REPEAT_AFTER` answers ago, the newest answer first."""
    said = db.comparisons
    mine = said.c.annotator == ANNOTATOR
    latest = sa.select(said.c.id).where(mine).order_by(said.c.id.desc()).offset(REPEAT_AFTER - 1).limit(1)
    once = sa.select(said.c.query_id, sa.func.max(said.c.id).label("last")).where(mine).group_by(said.c.query_id)
    alone = once.having(sa.func.count() == 1).subquery()
    chosen = _free().join(alone, alone.c.query_id == db.queries.c.id)
    return chosen.where(alone.c.last < latest.scalar_subquery()).order_by(alone.c.last.desc())


def _free() -> sa.Select:
    """Rows of the queries that nobody is being shown, and that the annotator does not have."""
    lease = db.leases
    live = (lease.c.query_id == db.queries.c.id) & ((lease.c.until >= NOW) | (lease.c.annotator == ANNOTATOR))
    return sa.select(db.queries).where(~sa.exists().where(live))


@cache
def finder(kind: Kind) -> sa.Select:
    """The first `count` of a kind, but for the ids `without`."""
    others = db.queries.c.id.not_in(sa.bindparam("without", expanding=True))
    return FINDERS[kind]().where(others).limit(sa.bindparam("count"))


FINDERS = {Kind.NEW: unanswered, Kind.SECOND: second, Kind.REPEAT: repeat}
