"""Dealing: which queries an annotator gets next, and how each is shown. Part of `prefgym.labelling.desk`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain

import numpy as np
import sqlalchemy as sa

from prefgym import rows as sql
from prefgym.labelling import rankings as ranked
from prefgym.labelling.candidates import Kind
from prefgym.labelling.leases import Leases
from prefgym.rows import Reader, Row
from prefgym.segments import Segment


class Dealer:
    """Chooses queries, lays their sides out by lot, and leases them, in as few statements as may be.

    Args:
        reader: of the store's segments.
        leases: of the same store.
        shares: of the tickets, in [0, 1], that are of a kind other than new.
        rng: draws kinds, sides and orders.
        time: seconds since 1970.
    """

    def __init__(
        self,
        reader: Reader,
        leases: Leases,
        shares: Mapping[Kind, float],
        rng: np.random.Generator,
        time: Callable[[], float],
    ) -> None:
        self.reader, self.leases, self.shares = reader, leases, dict(shares)
        self._rng, self._time = rng, time
        self._seen: Mapping[int, Segment] = {}

    def deal(self, connection: sa.Connection, annotator: str, count: int, rankings: bool) -> list[list[Row]]:
        """New leases, at most `count` bundles of what is shown together, the one to show first.

        Args:
            connection: that writes to the store.
            annotator: who is to be asked.
            count: how many are wanted.
            rankings: whether all pairs of several responses to one prompt may be one bundle.
        """
        kinds, now = [self._lot() for _ in range(count)], self._time()
        found = {kind: deque(self.leases.find(connection, kind, annotator, kinds.count(kind))) for kind in self.shares}
        new = self._new(connection, annotator, count - sum(map(len, found.values())), rankings)
        dealt: list[list[Row]] = []
        for place, drawn in enumerate(kinds):
            old = found.get(drawn)
            kind, rows = (drawn, [old.popleft()]) if old else (Kind.NEW, next(new, []))
            if not rows:
                break
            order = {"kind": kind.value, "given": now + 1e-6 * place}  # they stay in the order in which they were dealt
            dealt.append([{**row, **order} for row in self._laid_out(rows)])
        given = iter(self.leases.give(connection, annotator, chain.from_iterable(dealt)))
        return [[next(given) for _ in rows] for rows in dealt]

    def _lot(self) -> Kind:
        """Why the next query is to be shown, by lot: each kind has its share, and the rest is new."""
        dice = self._rng.random()
        for kind, share in self.shares.items():
            if dice < share:
                return kind
            dice -= share
        return Kind.NEW

    def _new(self, connection: sa.Connection, annotator: str, count: int, rankings: bool) -> Iterator[list[Row]]:
        """So many open queries, if there are, each alone or with the others of the ranking that it begins."""
        taken: set[int] = set()
        more = True
        while more and count:
            rows = self.leases.find(connection, Kind.NEW, annotator, count, taken)
            more = len(rows) == count
            if rankings:  # they are looked at; and kept, so that whoever makes the tickets need not read them again
                self._seen = self.reader.segments(connection, rows)
            for row in rows:
                if row["id"] in taken:
                    continue
                bundle = self._ranking(connection, row, annotator, taken) if rankings else []
                bundle = bundle or [row]
                taken.update(one["id"] for one in bundle)
                count -= 1
                yield bundle

    def _ranking(self, connection: sa.Connection, row: Row, annotator: str, without: set[int]) -> list[Row]:
        return ranked.complete_set(connection, self.reader, row, annotator, self._time(), without)

    def _laid_out(self, rows: Sequence[Row]) -> list[Row]:
        """Queries that are shown together, with tokens, and with sides or an order drawn by lot."""
        several = len(rows) > 1
        flips = ranked.drawn(rows, self._rng) if several else [bool(self._rng.integers(2))]
        tokens = ranked.new_tokens(len(rows)) if several else [sql.new_uid()]
        return [{**row, "flipped": flip, "token": token} for row, flip, token in zip(rows, flips, tokens, strict=True)]
