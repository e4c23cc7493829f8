"""Rankings: all pairs of K responses to one prompt, handed out together and answered in one go.

Nothing in the store says that queries belong together: a ranking is a set of open queries in which no pair of its K
segments is missing. While it is shown, the tokens of its leases have the same beginning; and which of a pair is shown
first tells, over all pairs, the whole order.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import combinations
from math import comb, isqrt

import numpy as np
import sqlalchemy as sa

from prefgym import database as db
from prefgym import rows as sql
from prefgym.labelling.candidates import unanswered
from prefgym.labelling.tickets import Choice
from prefgym.rows import Reader, Row
from prefgym.text import is_text, texts

FEWEST, MOST = 3, 9
"""Responses of a ranking: fewer are a pair, and more have no number key of their own."""

_SHARED = 28
"""Digits that the tokens of one ranking share; then come the number of the pair, and how many there are."""


def new_tokens(pairs: int) -> list[str]:
    """Tokens for so many pairs of one ranking, which tell that they belong together."""
    return _siblings(sql.new_uid()[:_SHARED], pairs)


def tokens_of(token: str) -> list[str]:
    """Those of the ranking that a token is of; [] if it cannot be of one."""
    pairs = int(token[-2:], 16) if re.fullmatch("[0-9a-f]{32}", token) else 0
    known = pairs in {comb(count, 2) for count in range(FEWEST, MOST + 1)}
    siblings = _siblings(token[:_SHARED], pairs) if known else []
    return siblings if token in siblings else []


def responses_of(tokens: Sequence[str]) -> int:
    """K, the responses that so many pairs are of."""
    return (1 + isqrt(1 + 8 * len(tokens))) // 2


def bundles(leases: Iterable[Row]) -> list[list[Row]]:
    """What is shown together: leases of a ranking none of which is missing; every other lease is alone."""
    groups: dict[str, list[Row]] = {}
    for lease in leases:
        groups.setdefault(lease["token"][:_SHARED], []).append(lease)
    whole = {name: len(group) > 1 and len(group) == int(group[0]["token"][-2:], 16) for name, group in groups.items()}
    return [part for name, group in groups.items() for part in ([group] if whole[name] else [[one] for one in group])]


def complete_set(
    connection: sa.Connection, reader: Reader, row: Row, annotator: str, now: float, without: Container[int] = ()
) -> list[Row]:
    """Open queries that nobody is shown, this one among them: all pairs of K responses to its prompt; [] if there are
    no such.

    Args:
        connection: to the store.
        reader: of its segments.
        row: of the query.
        annotator: who is to be asked.
        now: seconds since 1970.
        without: ids of queries that are about to be shown.
    """
    ends = {row["first_id"], row["second_id"]}
    if not _same_prompt(connection, reader, [row]):
        return []
    first, second = db.queries.c.first_id, db.queries.c.second_id

    def free(about: sa.ColumnElement[bool]) -> list[Row]:
        found = connection.execute(unanswered().where(about), {"annotator": annotator, "now": now}).mappings()
        return [one for one in found if one["id"] not in without]

    members = ends | _compared_with_both(free(first.in_(ends) | second.in_(ends)), ends)
    if not FEWEST <= len(members) <= MOST:
        return []
    within = reversed(
        free(first.in_(members) & second.in_(members))
    )  # so that of several about a pair the oldest stays
    pairs = {frozenset((one["first_id"], one["second_id"])): one for one in within}
    found = [pairs[pair] for pair in map(frozenset, combinations(sorted(members), 2)) if pair in pairs]
    whole = len(found) == comb(len(members), 2) and _same_prompt(connection, reader, found)
    return sorted(found, key=lambda one: one["id"]) if whole else []


def drawn(rows: Sequence[Row], rng: np.random.Generator) -> list[bool]:
    """Which of the queries to flip, so that their segments are shown in an order drawn by lot."""
    members = sorted({row[side] for row in rows for side in ("first_id", "second_id")})
    place = dict(zip(members, rng.permutation(len(members)).tolist(), strict=True))
    return [place[row["first_id"]] > place[row["second_id"]] for row in rows]


def order(leases: Iterable[Row], queries: Mapping[int, Row]) -> list[int]:
    """Ids of the segments of a ranking as they are shown.

    Args:
        leases: of all its pairs; comparisons do as well.
        queries: their rows, by id.
    """
    behind: Counter[int] = Counter()
    for lease in leases:
        left, right = _shown(lease, queries)
        behind.update({left: 0, right: 1})
    return sorted(behind, key=lambda segment: behind[segment])


def choices(leases: Sequence[Row], queries: Mapping[int, Row], ranks: Sequence[int] | None) -> list[Choice]:
    """What ranks [K] of the responses as shown say of each pair; None: that nothing can be said."""
    if ranks is None:
        return [Choice.SKIP] * len(leases)
    rank = dict(zip(order(leases, queries), ranks, strict=True))
    pairs = ([rank[segment] for segment in _shown(lease, queries)] for lease in leases)
    return [Choice.TIE if one == other else Choice.LEFT if one < other else Choice.RIGHT for one, other in pairs]


def check_ranks(ranks: Sequence[int] | None, count: int) -> Sequence[int] | None:
    """The ranks of so many responses.

    Raises:
        ValueError: they are not one whole number for each, from 0, the best, to count - 1.
    """
    if ranks is None:
        return None
    whole = all(isinstance(rank, int) and not isinstance(rank, bool) and 0 <= rank < count for rank in ranks)
    if len(ranks) != count or not whole or min(ranks) != 0:
        rule = f"must be {count} whole numbers from 0, the best, to {count - 1}"
        raise ValueError(f"`ranks` {rule}, got {str(list(ranks))[:80]}")
    return ranks


def _siblings(shared: str, pairs: int) -> list[str]:
    return [f"{shared}{number:02x}{pairs:02x}" for number in range(pairs)]


def _shown(lease: Row, queries: Mapping[int, Row]) -> tuple[int, int]:
    """Ids of the segments on the left and on the right."""
    row = queries[lease["query_id"]]
    first, second = row["first_id"], row["second_id"]
    return (second, first) if lease["flipped"] else (first, second)


def _compared_with_both(rows: Iterable[Row], ends: set[int]) -> set[int]:
    """Segments that there is a query about with the one and with the other."""
    pairs = {frozenset((row["first_id"], row["second_id"])) for row in rows}
    met = Counter(segment for pair in pairs for segment in pair - ends if pair & ends)
    return {segment for segment, times in met.items() if times == 2}


def _same_prompt(connection: sa.Connection, reader: Reader, rows: Sequence[Row]) -> bool:
    """Whether all segments of the queries are responses to one prompt."""
    segments = list(reader.segments(connection, rows).values())
    return all(map(is_text, segments)) and len({texts(segment)[0] for segment in segments}) == 1
