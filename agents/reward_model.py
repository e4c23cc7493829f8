"""The reward model of text: fitted to rankings, all pairs of one in a batch element, every completion encoded once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from prefgym.agents.fine_tuning import (
    FineTuningConfig,
    LossTrainer,
    encode,
    padded,
    split_by_prompt,
    train,
    within,
)
from prefgym.agents.reward_heads import member_scores, members_of, recentre, train_last_layers
from prefgym.agents.trainer_callbacks import training_loss
from prefgym.preferences import accuracy, calibration_error, preference_loss, preference_probability
from prefgym.text import Pair, Ranking

CALIBRATION_BINS = 10
"""Equally wide bins of confidence, from 0.5 to 1, in a report's calibration error."""


@dataclass(frozen=True)
class RewardModelConfig(FineTuningConfig):
    """Options of fitting a reward model; see `FineTuningConfig`, whose items are rankings here.

    Attributes:
        noise: share of the answers taken to be by coin.
        bootstrap: whether every head but the first is fitted to rankings that it draws itself, a Poisson number of
            times each, so that the heads disagree about what few answers decide. The first sees all.
        trained_layers: the last so many layers of the trunk are fitted, with the heads; None fits all. A few are
            enough for a real model, and take a third of the time.
    """

    epochs: float = 1.0
    batch_size: int = 8
    noise: float = 0.0
    bootstrap: bool = True
    trained_layers: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.trained_layers is not None and self.trained_layers < 0:
            raise ValueError(f"`trained_layers` must be None or at least 0, got {self.trained_layers}")
        if not 0 <= self.noise < 1:
            raise ValueError(f"`noise` must be in [0, 1), got {self.noise}")


@dataclass(frozen=True, slots=True)
class Contest:
    """A batch element: completions [K] of one prompt, and the pairs [P] of them that were compared.

    Attributes:
        rows: [K] tokens of prompt and completion.
        pairs: [P] numbers of two rows, and the target.
        prompt: by which items are held out.
        weight: of its loss, which is the mean over its pairs.
    """

    rows: tuple[tuple[int, ...], ...]
    pairs: tuple[Pair, ...]
    prompt: str = ""
    weight: float = 1.0


def contest_of(ranking: Ranking, tokenizer: PreTrainedTokenizerBase) -> Contest:
    """A ranking's completions, each ended by EOS, and all C(K, 2) pairs of them."""
    rows = (encode(tokenizer, ranking.prompt, response).tokens for response in ranking.responses)
    return Contest(tuple(rows), tuple(ranking.pairs()), ranking.prompt)


class Contests(Dataset):
    """Contests, with how often each head sees each.

    Args:
        contests: in an order in which new ones come last.
        members: M.
        seed: of the bootstrap; None lets every head see all.
    """

    def __init__(self, contests: Sequence[Contest], members: int = 1, seed: int | None = None) -> None:
        self.contests = contests
        self.drawn = np.ones((len(contests), members), np.float32)
        if seed is not None:
            self.drawn[:, 1:] = np.random.default_rng(seed).poisson(1.0, (len(contests), members - 1))

    def __len__(self) -> int:
        return len(self.contests)

    def __getitem__(self, number: int) -> tuple[Contest, np.ndarray]:
        return self.contests[number], self.drawn[number]


class ContestCollator:
    """Batches of C contests with R completions and P pairs in all.

    Args:
        padding: the model's own, by which it finds a text's last token.
    """

    def __init__(self, padding: int) -> None:
        self.padding = padding

    def __call__(self, items: Sequence[tuple[Contest, np.ndarray]]) -> dict[str, Tensor]:
        """Tokens and mask [R, L], pairs [P, 2] of rows, targets [P] and weights [P, M]."""
        tokens, mask = padded([row for contest, _ in items for row in contest.rows], self.padding)
        pairs, targets = numbered([contest for contest, _ in items])
        shares = [contest.weight / len(contest.pairs) / len(items) * drawn for contest, drawn in items]
        weights = np.repeat(np.stack(shares), [len(contest.pairs) for contest, _ in items], axis=0)
        batch = {"input_ids": tokens, "attention_mask": mask, "pairs": pairs}
        return batch | {"targets": targets, "weights": torch.from_numpy(weights).float()}


def numbered(contests: Sequence[Contest]) -> tuple[Tensor, Tensor]:
    """All pairs [P, 2] of contests by the numbers of their rows, counted through, and their targets [P]."""
    starts = np.cumsum([0, *(len(contest.rows) for contest in contests)]).tolist()
    pairs = [
        (pair.first + start, pair.second + start)
        for contest, start in zip(contests, starts, strict=False)
        for pair in contest.pairs
    ]
    targets = [float(pair.target) for contest in contests for pair in contest.pairs]
    return torch.tensor(pairs), torch.tensor(targets)


class RewardModelTrainer(LossTrainer):
    """InstructGPT's loss (Ouyang et al. 2022, equation 1), averaged over the contests of a step and over the heads.

    Args:
        args: of `transformers.Trainer`.
        noise: as in `RewardModelConfig`.
        kwargs: of `transformers.Trainer`.
    """

    loss_is_scaled_for_ga = False  # a mean of this batch: the Trainer divides by the batches of a step

    def __init__(self, *args: Any, noise: float = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.noise = noise

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Mean over contests of the mean over pairs of the preference loss; a tie's target is 0.5."""
        scores = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits.float()  # [R, M]
        first, second = scores[inputs["pairs"]].unbind(1)
        losses = preference_loss(first, second, inputs["targets"][:, None], noise=self.noise)
        loss = (losses * inputs["weights"]).sum(0).mean()
        return (loss, {}) if return_outputs else loss


@dataclass(frozen=True)
class PairReport:
    """How well predictions of pairs came true; nan where there are none. The prediction is the mean over the heads.

    Attributes:
        accuracy: share decided as the teacher did, ties left out.
        log_likelihood: mean a pair, nats; a coin has -0.693.
        calibration_error: expected, over `CALIBRATION_BINS` bins; see `prefgym.preferences.calibration_error`.
        pairs: how many.
        prompts: how many they are about.
    """

    accuracy: float
    log_likelihood: float
    calibration_error: float
    pairs: int
    prompts: int


@dataclass(frozen=True)
class RewardReport:
    """What fitting came to.

    Attributes:
        training_loss: nats a pair, as it was while training.
        held_out: on pairs of prompts that nothing was trained on.
        rankings: trained on.
        prompts: trained on.
        steps: optimizer steps taken.
    """

    training_loss: float
    held_out: PairReport
    rankings: int
    prompts: int
    steps: int


def fit_reward_model(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rankings: Iterable[Ranking],
    config: RewardModelConfig | None = None,
    *,
    reference: Iterable[tuple[str, str]] = (),
    folder: str | Path | None = None,
) -> RewardReport:
    """Fits a model of `make_reward_model` to rankings, and recentres it.

    Args:
        model: fitted in place.
        tokenizer: of the model.
        rankings: K responses each; ties count.
        config: see `RewardModelConfig`.
        reference: prompts and responses, the initial policy's say, on which every head's mean reward is made 0; none
            leaves it where it is.
        folder: for checkpoints, so that a run that was killed goes on.

    Raises:
        ValueError: no ranking that is short enough, or a tokenizer without EOS.
        FloatingPointError: the loss is not finite.
    """
    config = config or RewardModelConfig()
    contests = [contest_of(ranking, tokenizer) for ranking in rankings]
    contests = within(config, contests, lambda contest: max(map(len, contest.rows)), "rankings")
    used, held = split_by_prompt(contests, lambda contest: contest.prompt, config.held_out, config.seed)
    loss, steps = fit_contests(model, used, config, folder)
    rows = [encode(tokenizer, prompt, response).tokens for prompt, response in reference]
    if rows:
        recentre(model, rows)
    return RewardReport(loss, pair_report(model, held), len(used), len({contest.prompt for contest in used}), steps)


def fit_contests(
    model: Any, contests: Sequence[Contest], config: RewardModelConfig, folder: str | Path | None = None
) -> tuple[float, int]:
    """Fits a reward model in place; returns the training loss and the number of optimizer steps."""
    seed = config.seed if config.bootstrap else None
    if config.trained_layers is not None:
        train_last_layers(model, config.trained_layers)
    options: dict[str, Any] = {"train_dataset": Contests(contests, members_of(model), seed), "noise": config.noise}
    options["data_collator"] = ContestCollator(model.config.get_text_config().pad_token_id)
    trainer = train(lambda args: RewardModelTrainer(model, args, **options), config, folder)
    model.eval()
    return training_loss(trainer), trainer.state.global_step


def predictions(model: Any, contests: Sequence[Contest]) -> tuple[Tensor, Tensor]:
    """P(the first is better) of each head [M, P] for all pairs of the contests, and their targets [P]."""
    scores = member_scores(model, [row for contest in contests for row in contest.rows])
    pairs, targets = numbered(contests)
    first, second = scores[:, pairs].unbind(2)
    return preference_probability(first, second), targets


def pair_report(model: Any, contests: Sequence[Contest]) -> PairReport:
    """How well the model predicts the pairs of contests."""
    if not contests:
        return PairReport(math.nan, math.nan, math.nan, 0, 0)
    members, targets = predictions(model, contests)
    chance = members.double().mean(0).clamp(1e-12, 1 - 1e-12)
    likelihood = (targets * chance.log() + (1 - targets) * (1 - chance).log()).mean()
    return PairReport(
        float(accuracy(chance, 0.5, targets)),
        float(likelihood),
        float(calibration_error(chance, targets, CALIBRATION_BINS)),
        len(targets),
        len({contest.prompt for contest in contests}),
    )
