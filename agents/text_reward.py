"""The text reward model as the loop and the environment use it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefgym.agents.reward_heads import load_reward_model, member_scores, offsets, recentre, save_reward_model
from prefgym.agents.reward_model import Contest, RewardModelConfig, fit_contests, pair_report
from prefgym.rewards.ensemble import Arrays, FitReport
from prefgym.text import PADDING, Pair

Observations = np.ndarray | Mapping[str, np.ndarray]


class TextRewardEnsemble:
    """M heads on one trunk, from the tokens of a prompt and a response to a reward; takes `RewardEnsemble`'s place.

    Args:
        model: of `prefgym.agents.reward_heads.make_reward_model`.
        config: of every fit.
        reference: tokens [R, L], padded with -1, that rewards have mean 0 and deviation 1 on, such as the initial
            policy's responses; None is what `normalise` is handed: in the loop, what the policy says now.
        warm: every fit goes on from the last one's weights; else from those that the model has now, a copy of which
            is kept.
        optimism: how many times the heads' standard deviation is added to the reward.
        batch_size: texts scored at a time.
        close: put the model's EOS behind responses that did not come to an end within their limit. A score is read at
            the last token, which is then always the same one: where most are cut off, nothing is learned without it
            (docs/experiments.md). Where few are, that they are tells something.
    """

    def __init__(
        self,
        model: Any,
        config: RewardModelConfig | None = None,
        *,
        reference: np.ndarray | None = None,
        warm: bool = False,
        optimism: float = 0.0,
        batch_size: int = 64,
        close: bool = True,
    ) -> None:
        self.model, self.config = model, config or RewardModelConfig()
        self.reference, self.optimism, self.batch_size = reference, optimism, batch_size
        self._ends = _ends(model) if close else ()
        self._start = None if warm else {name: value.cpu().clone() for name, value in model.state_dict().items()}

    def __call__(self, observations: Observations, actions: np.ndarray) -> np.ndarray:
        """Rewards [N]: the heads' mean, and the optimism.

        Args:
            observations: tokens [N, L], padded with -1, or a text environment's dict: a row that has just ended its
                response is given its reward then, and every other 0.
            actions: [N, ...], not used.
        """
        if not isinstance(observations, Mapping):
            return self._combined(self.predict(observations, actions))
        rewards = np.zeros(len(observations["tokens"]))
        ended = np.flatnonzero((observations["waiting"] == 1) & (observations["length"] > 0))
        if len(ended):
            rewards[ended] = self._combined(self.predict(_padded(observations, ended), actions))
        return rewards

    def score(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        """Rewards [B] of the tokens of B texts: the heads' mean."""
        bias, scale = offsets(self.model)[:, :, None].numpy()
        scores = member_scores(self.model, [self._ended(row) for row in rows], self.batch_size).numpy()
        return ((scores + bias) * scale).mean(axis=0)

    def predict(self, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Rewards of each head [M, ...] for tokens [..., L]."""
        bias, scale = offsets(self.model)[:, :, None].numpy()
        rewards = (self._scores(observations) + bias) * scale
        return rewards.reshape(-1, *observations.shape[:-1])

    def returns(self, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Scores [M, C] of segments [C, 1, L], on the scale that the fit compares."""
        return self._scores(observations)

    def normalise(self, observations: np.ndarray, actions: np.ndarray) -> None:
        """Give every head mean 0 and deviation 1 over the reference, or else over tokens [R, L]."""
        tokens = observations if self.reference is None else self.reference
        recentre(self.model, self._rows(tokens), scale=True, batch_size=self.batch_size)

    def fit(self, first: Arrays, second: Arrays, targets: np.ndarray) -> FitReport:
        """Fit to B comparisons, each of which counts alike; completions that several are about are encoded once.

        Nothing is held out: tokens do not tell where a prompt ends. The loop measures predictions on later answers.

        Args:
            first: tokens [B, 1, L] and actions [B, 1, A] of the first responses.
            second: the same of the second.
            targets: [B] P(first is better).

        Raises:
            ValueError: without comparisons.
            FloatingPointError: if the loss is not finite.
        """
        if len(targets) < 1:
            raise ValueError("`fit` needs at least 1 comparison, got 0")
        if self._start is not None:
            self.model.load_state_dict(self._start)
        contests = contests_of(self._rows(first[0]), self._rows(second[0]), targets)
        loss, _ = fit_contests(self.model, contests, self.config)
        right = pair_report(self.model, contests).accuracy
        return FitReport(loss, math.nan, right, math.nan, self.config.weight_decay, len(targets))

    def save(self, path: Path) -> None:
        """Write the folder `path`, which `AutoModelForSequenceClassification` loads too."""
        save_reward_model(self.model, path)

    def load(self, path: Path) -> None:
        """Read what `save` wrote, by a model of the same shape and number of heads.

        Raises:
            ValueError: it is of another shape.
        """
        loaded = load_reward_model(path)
        try:
            self.model.load_state_dict(loaded.state_dict())
        except RuntimeError as error:
            raise ValueError(f"{path} holds a reward model of another shape: {error}") from error
        for name in ("reward_bias", "reward_scale"):
            setattr(self.model.config, name, getattr(loaded.config, name))

    def _scores(self, observations: np.ndarray) -> NDArray[np.float32]:
        return member_scores(self.model, self._rows(observations), self.batch_size).numpy()

    def _rows(self, tokens: np.ndarray) -> list[tuple[int, ...]]:
        """The tokens of each row [..., L], without its padding, and ended."""
        flat = tokens.reshape(-1, tokens.shape[-1]).astype(np.int64)
        return [self._ended(tuple(row[row != PADDING].tolist())) for row in flat]

    def _ended(self, row: Sequence[int]) -> tuple[int, ...]:
        ended = not self._ends or (len(row) > 0 and row[-1] in self._ends)
        return tuple(row) if ended else (*row, self._ends[0])

    def _combined(self, rewards: np.ndarray) -> np.ndarray:
        return rewards.mean(axis=0) + self.optimism * rewards.std(axis=0)


def contests_of(first: Sequence[Sequence[int]], second: Sequence[Sequence[int]], targets: np.ndarray) -> list[Contest]:
    """B comparisons as contests: those that a chain of shared responses joins are one.

    The losses of contests are weighted so that every comparison counts alike.
    """
    numbers = {row: number for number, row in enumerate(dict.fromkeys(map(tuple, [*first, *second])))}
    pairs = [(numbers[tuple(one)], numbers[tuple(other)]) for one, other in zip(first, second, strict=True)]
    heads = _joined(len(numbers), pairs)
    groups: dict[int, list[tuple[int, int, float]]] = {}
    for (one, other), target in zip(pairs, targets.tolist(), strict=True):
        groups.setdefault(heads[one], []).append((one, other, target))
    rows, mean = list(numbers), len(pairs) / len(groups)
    return [_contest(group, rows, len(group) / mean) for group in groups.values()]


def _contest(group: Sequence[tuple[int, int, float]], rows: Sequence[tuple[int, ...]], weight: float) -> Contest:
    place = {
        row: n for n, row in enumerate(dict.fromkeys(number for one, other, _ in group for number in (one, other)))
    }
    pairs = tuple(Pair(place[one], place[other], target) for one, other, target in group)
    return Contest(tuple(rows[number] for number in place), pairs, weight=weight)


def _joined(count: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """For each of `count` numbers the least one that pairs join it with."""
    heads = list(range(count))

    def head(number: int) -> int:
        while heads[number] != number:
            heads[number] = heads[heads[number]]
            number = heads[number]
        return number

    for one, other in pairs:
        low, high = sorted((head(one), head(other)))
        heads[high] = low
    return [head(number) for number in range(count)]


def _ends(model: Any) -> tuple[int, ...]:
    """The tokens that end a text, of a model's configuration; none where it names none."""
    named = model.config.get_text_config().eos_token_id
    return () if named is None else (named,) if isinstance(named, int) else tuple(named)


def _padded(observations: Mapping[str, np.ndarray], rows: NDArray[np.integer]) -> np.ndarray:
    """Tokens [R, L] of some rows of a text environment, padded with -1 whatever its own padding is."""
    tokens, lengths = observations["tokens"][rows], observations["length"][rows]
    return np.where(np.arange(tokens.shape[1]) < lengths[:, None], tokens, PADDING)
