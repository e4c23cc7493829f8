"""What answers imply about each other: if a is better than b and b than c, nobody needs to be asked about a and c.

The order known so far is one matrix, `known` [C, C]: True where i is known to be at least as good as j. So i is better
where only known[i, j] holds, the two are equal where known[j, i] does too, and nothing is known where neither does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prefgym.queries import Code

Known = NDArray[np.bool_]


def known_order(answered: NDArray[np.integer], count: int) -> Known:
    """The transitive closure [C, C] of what was answered.

    Earlier answers are believed first: one that contradicts what those before it imply is left out, so that a single
    mistake cannot turn a whole list into a circle. Ties are taken to be transitive.

    Args:
        answered: [K, 3] int, as in `Candidates`; skipped and open queries say nothing.
        count: C, the number of candidates.
    """
    known = np.eye(count, dtype=np.bool_)
    for first, second, code in answered.tolist():
        if code in (Code.FIRST, Code.TIE):
            _learn(known, first, second, tie=code == Code.TIE)
        elif code == Code.SECOND:
            _learn(known, second, first, tie=False)
    return known


def better(known: Known) -> Known:
    """[C, C], True where i is known to be better than j, not just equal."""
    return known & ~known.T


def undecided(known: Known) -> Known:
    """[C, C], True where the order of i and j is not known."""
    return ~(known | known.T)


def longest_chain(known: Known) -> NDArray[np.int64]:
    """The longest list [L] of candidates, worst first, whose order is known throughout; one of each set of equals.

    Candidates about which nothing is known are not in it. Every other candidate is undecided against a contiguous part
    of the list, or equal to one of its members: had it a place of its own, the list would be longer.
    """
    names = np.flatnonzero(known.sum(0) + known.sum(1) > 2)  # everybody is as good as oneself
    beats = better(known[np.ix_(names, names)])
    length, below = np.ones(len(names), np.int64), np.full(len(names), -1)
    # Whoever wins beats all that the loser beats, and the loser: the number of those beaten sorts bottom up.
    for winner in np.argsort(beats.sum(1), kind="stable"):
        losers = np.flatnonzero(beats[winner])
        if losers.size:
            below[winner] = losers[length[losers].argmax()]
            length[winner] = length[below[winner]] + 1
    chain = [length.argmax()] if names.size else []
    while chain and below[chain[-1]] >= 0:
        chain.append(below[chain[-1]])
    return names[np.array(chain[::-1], np.int64)]


def implied_comparisons(answered: NDArray[np.integer]) -> NDArray[np.int64]:
    """Comparisons [P, 3] that nobody was asked for and that the answers imply: additional pairs to fit a reward to.

    Rows are (better, worse, `Code.FIRST`) and (one, other, `Code.TIE`). Under a teacher who errs they are less certain
    than answers, the more so the longer the chain they follow from.

    Args:
        answered: [K, 3] int, as in `Candidates`.
    """
    names, pairs = np.unique(answered[:, :2], return_inverse=True)
    first, second = pairs.reshape(-1, 2).T
    known = known_order(np.stack([first, second, answered[:, 2]], 1), len(names))
    asked = np.eye(len(names), dtype=np.bool_)
    asked[first, second] = asked[second, first] = True
    wins, ties = (np.argwhere(found & ~asked) for found in (better(known), np.triu(known & known.T)))
    codes = np.repeat([Code.FIRST, Code.TIE], [len(wins), len(ties)])
    return np.column_stack([names[np.concatenate([wins, ties])], codes]).astype(np.int64)


def _learn(known: Known, first: int, second: int, tie: bool) -> None:
    if known[first, second] or known[second, first]:
        return  # said before, or contradicts it
    for higher, lower in [(first, second), (second, first)][: 1 + tie]:
        known[known[:, higher]] |= known[lower]
