"""An ensemble of small networks, refitted as answers come, with any of the query strategies.

On a text task it is an ensemble of heads on one trunk: that of the language model whose responses are compared.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from prefgym.benchmark.methods import Ask, Scorer, View
from prefgym.comparisons import Answer
from prefgym.queries import Candidates, Code, queries
from prefgym.queries.draw import count_pairs
from prefgym.rewards.ensemble import EnsembleConfig, RewardEnsemble

FIRST_ROUND = 25
"""Queries chosen at once in the beginning, before there is a fit to choose by."""

GROWTH = 0.25
"""Later rounds: the model is fitted again when a quarter more has been answered."""


@dataclass(frozen=True)
class Ensemble:
    """`RewardEnsemble` with a query strategy: in rounds it chooses, asks and fits.

    Attributes:
        strategy: name of the query strategy.
        reward: options of the reward model.
        agent: what learns on the online track.
        tracks: it can be run on.
        kinds: of tasks it is for.
        pessimism: how many times the members' deviation is taken from the reward that PPO gets, on the track
            overoptimisation.
    """

    strategy: str = "uniform"
    reward: EnsembleConfig = field(default_factory=EnsembleConfig)
    agent: str = "ppo"
    tracks: tuple[str, ...] = ("offline", "online", "overoptimisation")
    kinds: tuple[str, ...] = ("control", "text")
    pessimism: float = 0.0
    informed: ClassVar[bool] = False

    @property
    def summary(self) -> str:
        """What it is, in a line."""
        said = str(queries[self.strategy].__doc__).partition("\n")[0]
        return f"{self.reward.members} networks, refitted in rounds; queries: {said[:1].lower()}{said[1:]}"

    def fit(self, view: View, ask: Ask, budgets: Sequence[int], seed: int) -> Iterator[Scorer]:
        """See `Method.fit`."""
        rng = np.random.default_rng(seed)
        model = self.model(view, seed)
        book = Book(view)
        for budget in budgets:
            while (count := min(self.round(book), budget - len(book))) > 0:
                pairs = self.choose(model, book, count, rng)
                book.add(pairs, [self.heard(answer, rng) for answer in ask(pairs)])
                self.learn(model, book, rng)
            yield scorer(model)

    def model(self, view: View, seed: int) -> RewardEnsemble:
        """An untrained reward for what the view holds."""
        if not view.policy:
            reward = replace(self.reward, optimism=-self.pessimism)
            return RewardEnsemble(view.observations.shape[2], view.actions.shape[2], reward, seed)
        from prefgym.benchmark.text_models import text_reward

        return cast(RewardEnsemble, text_reward(view, self.reward.members, seed, -self.pessimism))  # takes its place

    def round(self, book: Book) -> int:
        """Queries to be chosen at once; all of a budget where the choice does not go by a fit that starts anew."""
        blind = bool(book.view.policy) and self.strategy == "uniform"
        return sys.maxsize if blind else max(FIRST_ROUND, int(GROWTH * len(book)))

    def heard(self, answer: Answer, rng: np.random.Generator) -> Answer:
        """See `Method.heard`."""
        return answer

    def choose(self, model: RewardEnsemble, book: Book, count: int, rng: np.random.Generator) -> NDArray[np.integer]:
        """The next pairs [count, 2] to ask about."""
        strategy = queries[self.strategy]()
        scores = (
            model.returns(book.view.observations, book.view.actions) if book.fits else np.zeros((1, len(book.view)))
        )
        remembers = getattr(strategy, "remembers", False)
        return strategy.choose(book.candidates(scores, count, remembers=remembers), count, rng)

    def learn(self, model: RewardEnsemble, book: Book, rng: np.random.Generator) -> None:
        """Fit to all answers, if any of them says something."""
        pairs, targets = self.lessons(model, book, rng)
        if len(targets):
            first, second = book.segments(pairs[:, 0]), book.segments(pairs[:, 1])
            model.fit(first, second, targets)
            book.fits += 1

    def lessons(
        self, model: RewardEnsemble, book: Book, rng: np.random.Generator
    ) -> tuple[NDArray[np.integer], NDArray[np.floating]]:
        """Pairs [B, 2] and targets [B] to fit to: the answers, without those skipped."""
        return book.lessons()


class Book:
    """What was asked about a view's segments, and what was answered.

    Args:
        view: the segments.

    Attributes:
        fits: how often a model was fitted to it.
    """

    def __init__(self, view: View) -> None:
        self.view, self.fits = view, 0
        self.pairs: NDArray[np.int64] = np.zeros((0, 2), np.int64)
        self.answers: list[Answer] = []

    def __len__(self) -> int:
        """Queries asked, skips included."""
        return len(self.answers)

    def add(self, pairs: NDArray[np.integer], answers: Sequence[Answer]) -> None:
        """Pairs [P, 2] with their P answers."""
        self.pairs = np.concatenate([self.pairs, pairs])
        self.answers += answers

    def lessons(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Pairs [B, 2] and targets [B] of the answers that say something."""
        useful = [number for number, answer in enumerate(self.answers) if answer.target is not None]
        return self.pairs[useful], np.array([self.answers[number].target for number in useful], np.float32)

    def segments(self, numbers: NDArray[np.integer]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Observations [B, T, O] and actions [B, T, A] of these numbers [B]."""
        return self.view.observations[numbers], self.view.actions[numbers]

    def answered(self) -> NDArray[np.int64]:
        """All queries [K, 3] with their codes, as `Candidates` wants them."""
        codes = np.array([Code.of(answer) for answer in self.answers], np.int64)
        return np.column_stack([self.pairs, codes])

    def candidates(self, scores: NDArray[np.floating], count: int, *, remembers: bool) -> Candidates:
        """What a strategy sees; where too few segments were never asked about, all count as fresh again.

        Args:
            scores: [M, C] predicted returns.
            count: pairs that are to be chosen.
            remembers: whether the strategy wants to know earlier answers.
        """
        fresh = np.ones(len(self.view), np.bool_)
        fresh[self.pairs] = False
        features = self.view.observations.mean(axis=1)
        answered = self.answered() if remembers else np.zeros((0, 3), np.int64)
        groups = self.view.groups
        found = Candidates(scores, features, self.view.steps, fresh, answered, groups)  # type: ignore[arg-type]
        if remembers or count_pairs(found, np.flatnonzero(fresh)) >= count:
            return found
        return replace(found, fresh=np.ones_like(fresh))


def scorer(model: RewardEnsemble) -> Scorer:
    """The ensemble as it is judged: its members' returns, and their mean reward."""
    return Scorer(
        model.returns,
        lambda observations, actions: model.predict(observations, actions).mean(0),
        model.config.noise,
        model,
    )


uniform = partial(Ensemble, "uniform")
on_policy = partial(Ensemble, "on-policy")
disagreement = partial(Ensemble, "disagreement")
entropy = partial(Ensemble, "entropy")
information = partial(Ensemble, "information")
ranked = partial(Ensemble, "ranked", tracks=("offline", "online"), kinds=("control",))
