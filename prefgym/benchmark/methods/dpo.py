"""The reward that DPO implies (Rafailov et al. 2023): by how much a response has become likelier."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefgym.agents.dpo import DPOConfig, dpo
from prefgym.agents.text_policy import TextPolicy
from prefgym.benchmark.methods import Ask, Scorer, View
from prefgym.benchmark.methods.ensemble import Book, Ensemble
from prefgym.benchmark.text_models import log_probs, policy_of, texts_of
from prefgym.text import Ranking


@dataclass(frozen=True)
class ImpliedByDPO(Ensemble):
    """Uniform queries; for every budget the language model is trained anew, and its reward is β log π / π₀.

    Attributes:
        dpo: options of the training.
    """

    dpo: DPOConfig = field(default_factory=lambda: DPOConfig(batch_size=8, learning_rate=1e-3, held_out=0.0, epochs=3))
    tracks: tuple[str, ...] = ("offline",)  # PPO on this reward is what DPO does without
    kinds: tuple[str, ...] = ("text",)

    def fit(self, view: View, ask: Ask, budgets: Sequence[int], seed: int) -> Iterator[Scorer]:
        """See `Method.fit`."""
        rng, book = np.random.default_rng(seed), Book(view)
        first = policy_of(view)
        for budget in budgets:
            pairs = self.choose(None, book, budget - len(book), rng)  # type: ignore[arg-type]  # uniform asks no model
            book.add(pairs, [self.heard(answer, rng) for answer in ask(pairs)])
            policy = copy.deepcopy(first)
            if rankings := _rankings(book, first):
                dpo(policy.model, policy.tokenizer, rankings, replace(self.dpo, seed=seed))
            gain = partial(self._gain, first, policy)
            yield Scorer(lambda seen, done, gain=gain: gain(seen, done)[None], gain)  # type: ignore[misc]

    def _gain(self, first: TextPolicy, now: TextPolicy, seen: NDArray, done: NDArray) -> NDArray[np.float64]:
        """Rewards [C] of responses [C, 1, L] or [C, L], with the lengths of their prompts."""
        rows, starts = seen.reshape(len(seen), -1), done.reshape(-1)
        return self.dpo.beta * (log_probs(now, rows, starts) - log_probs(first, rows, starts))


def _rankings(book: Book, policy: TextPolicy) -> list[Ranking]:
    """The answers that say something, ties left out."""
    pairs, targets = book.lessons()
    said: list[Any] = [texts_of(policy, *book.segments(side)) for side in pairs.T]
    return [
        Ranking(prompt, (response, other), (0, 1) if target > 0.5 else (1, 0))
        for (prompt, response), (_, other), target in zip(*said, targets.tolist(), strict=True)
        if target != 0.5
    ]
