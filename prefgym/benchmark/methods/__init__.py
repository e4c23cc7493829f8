"""Methods: how to get from a budget of comparisons to a reward. One file and one line of `methods` each.

A method is a frozen dataclass of options. It sees what `View` holds, asks, and gives a `Scorer` for every budget; it
never sees a true return, unless it says that it is `informed`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from prefgym.comparisons import Answer
from prefgym.registry import Registry
from prefgym.rewards.ensemble import EnsembleConfig


@dataclass(frozen=True)
class Scorer:
    """A reward that was learned, as the benchmark judges it.

    Attributes:
        returns: maps segments [C, T, O] and [C, T, A] to returns [M, C] of each member, on the scale on which the
            sigmoid of a difference is P(the first is better).
        rewards: maps steps [N, O] and [N, A] to rewards [N].
        noise: share of answers taken to be by coin, beside that probability.
        model: the learned reward itself, which the over-optimisation track hands to PPO; None where there is none.
    """

    returns: Callable[[NDArray, NDArray], NDArray]
    rewards: Callable[[NDArray, NDArray], NDArray]
    noise: float = 0.0
    model: Any = None


@dataclass(frozen=True, eq=False)
class View:
    """What a method sees of a pool: C segments of equal length T.

    Attributes:
        observations: [C, T, O].
        actions: [C, T, A]; of a text, how many of its tokens are the prompt's.
        steps: [C] env steps the policy that made each had learned for: the larger, the newer.
        truth: the true reward, for methods that are `informed`; None for all others.
        groups: [C] of a text task: only segments of one group, responses to one prompt, can be compared; else None.
        policy: of a text task: the weights of the language model after its fine-tuning; else {}.
    """

    observations: NDArray[np.float32]
    actions: NDArray[np.float32]
    steps: NDArray[np.int64]
    truth: Scorer | None = None
    groups: NDArray[np.int64] | None = None
    policy: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.steps)


Ask = Callable[[NDArray[np.integer]], Sequence[Answer]]
"""Puts pairs [P, 2] of the pool's segments to the teacher, and returns P answers; each counts against the budget."""


class Method(Protocol):
    """What the registry's parts are made by: `methods[name]()` is a method."""

    informed: ClassVar[bool]
    """Whether it is shown the true reward: the upper bound, which learns nothing."""

    tracks: tuple[str, ...]
    """Those it can be run on."""

    kinds: tuple[str, ...]
    """Of tasks it is for: control, text."""

    agent: str
    """What learns from the reward on the online track: ppo or sac."""

    strategy: str
    """Name of the query strategy, for the online track."""

    reward: EnsembleConfig
    """Options of the reward model, for the online track."""

    def fit(self, view: View, ask: Ask, budgets: Sequence[int], seed: int) -> Iterator[Scorer]:
        """A scorer for each of the budgets, which ascend; by then no more than so many pairs may have been asked.

        A scorer is used before the next one is asked for, so all may be one object that goes on learning.
        """
        ...

    def heard(self, answer: Answer, rng: np.random.Generator) -> Answer:
        """What the method takes an answer for; itself, but for baselines that must lose."""
        ...


methods = Registry(
    "method",
    {
        "uniform-ensemble": "prefgym.benchmark.methods.ensemble:uniform",
        "on-policy-ensemble": "prefgym.benchmark.methods.ensemble:on_policy",
        "disagreement-ensemble": "prefgym.benchmark.methods.ensemble:disagreement",
        "entropy-ensemble": "prefgym.benchmark.methods.ensemble:entropy",
        "information-ensemble": "prefgym.benchmark.methods.ensemble:information",
        "ranked-ensemble": "prefgym.benchmark.methods.ensemble:ranked",
        "ranked-implied": "prefgym.benchmark.methods.implied:Implied",
        "uniform-single": "prefgym.benchmark.methods.single:single",
        "uniform-seven": "prefgym.benchmark.methods.seven:uniform",
        "disagreement-seven": "prefgym.benchmark.methods.seven:disagreement",
        "uniform-crops": "prefgym.benchmark.methods.surf:crops",
        "uniform-surf": "prefgym.benchmark.methods.surf:Surf",
        "uniform-sac": "prefgym.benchmark.methods.sac:sac",
        "pessimistic-ensemble": "prefgym.benchmark.methods.pessimistic:pessimistic",
        "dpo": "prefgym.benchmark.methods.dpo:ImpliedByDPO",
        "linear": "prefgym.benchmark.methods.linear:Linear",
        "imitation": "prefgym.benchmark.methods.imitation:Imitation",
        "random-labels": "prefgym.benchmark.methods.random_labels:RandomLabels",
        "flipped": "prefgym.benchmark.methods.flipped:Flipped",
        "true": "prefgym.benchmark.methods.true:Truth",
    },
)
"""Name to a function without arguments that makes the `Method`."""
