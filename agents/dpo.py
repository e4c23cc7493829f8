"""Direct preference optimisation (Rafailov et al. 2023): a `transformers.Trainer` that computes its loss."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from prefgym.agents.fine_tuning import (
    Encoded,
    FineTuningConfig,
    LossTrainer,
    encode,
    labelled_log_probs,
    padding_of,
    split_by_prompt,
    train,
    within,
)
from prefgym.agents.language_model import LanguageModel
from prefgym.agents.sft import ResponseCollator
from prefgym.agents.trainer_callbacks import training_loss
from prefgym.preferences import accuracy, dpo_loss
from prefgym.text import Ranking
from prefgym.text_formats import preferences


@dataclass(frozen=True)
class DPOConfig(FineTuningConfig):
    """Options of DPO; see `FineTuningConfig`, whose items are pairs here: all of a ranking that are no ties.

    Attributes:
        beta: return per nat that the policy departs from the reference; the larger, the closer it stays.
        smoothing: probability that an answer is wrong (conservative DPO), in [0, 0.5).
    """

    batch_size: int = 8
    learning_rate: float = 1e-6
    beta: float = 0.1
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        dpo_loss(0, 0, 0, 0, self.beta, self.smoothing)  # which checks both


class Choice(NamedTuple):
    """A pair of responses to one prompt, with the reference's log-probabilities of them, in nats.

    Attributes:
        prompt: by which items are held out.
        chosen: the better response.
        rejected: the worse one.
        reference: of the better and of the worse.
    """

    prompt: str
    chosen: Encoded
    rejected: Encoded
    reference: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class MarginReport:
    """Where pairs stand, relative to the reference; nan where there are none.

    Attributes:
        accuracy: share in which the better response gained more log-probability than the worse.
        margin: mean of how much more, nats.
        chosen_gain: mean log-probability that the better one gained, nats; it often falls, the worse falling further.
        pairs: how many.
    """

    accuracy: float
    margin: float
    chosen_gain: float
    pairs: int


@dataclass(frozen=True)
class DPOReport:
    """What came out.

    Attributes:
        steps: optimizer steps taken.
        training_loss: nats a pair, as it was while training; a coin has 0.693.
        trained: on the pairs trained on.
        held_out: on pairs of prompts that were not.
    """

    steps: int
    training_loss: float
    trained: MarginReport
    held_out: MarginReport


class ChoiceCollator:
    """Batches of B pairs: tokens, mask and goal [2 B, L], the better responses first, and the reference [2 B].

    Args:
        padding: any token.
    """

    def __init__(self, padding: int) -> None:
        self.responses = ResponseCollator(padding)

    def __call__(self, items: Sequence[Choice]) -> dict[str, Tensor]:
        """The batch."""
        batch = self.responses([*(item.chosen for item in items), *(item.rejected for item in items)])
        batch["goal"] = batch.pop("labels")  # "labels" would make the Trainer count tokens
        reference = [item.reference[side] for side in (0, 1) for item in items]
        return batch | {"reference": torch.tensor(reference)}


class DPOTrainer(LossTrainer):
    """The mean DPO loss of a step's pairs, with reference log-probabilities that the batch brings.

    Args:
        args: of `transformers.Trainer`.
        beta: as in `DPOConfig`.
        smoothing: likewise.
        kwargs: of `transformers.Trainer`.
    """

    loss_is_scaled_for_ga = False  # a mean of this batch: the Trainer divides by the batches of a step

    def __init__(self, *args: Any, beta: float = 0.1, smoothing: float = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.beta, self.smoothing = beta, smoothing

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The loss of a batch of `ChoiceCollator`."""
        chosen, rejected = response_log_probs(model, inputs).chunk(2)
        references = inputs["reference"].chunk(2)
        loss = dpo_loss(chosen, rejected, references[0], references[1], self.beta, self.smoothing).mean()
        return (loss, {}) if return_outputs else loss


def dpo(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rankings: Iterable[Ranking],
    config: DPOConfig | None = None,
    *,
    reference: nn.Module | None = None,
    folder: str | Path | None = None,
) -> DPOReport:
    """Trains a causal language model to prefer what was preferred, without a reward model.

    Args:
        model: trained in place, its dropout switched off; full weights, or those that require gradients (adapters).
        tokenizer: needs an EOS.
        rankings: all pairs of each are used, but for ties.
        config: see `DPOConfig`.
        reference: the model that the policy is kept close to, asked once, before training. None is the model as it is
            now; with peft's adapters, the base with the adapters off.
        folder: for checkpoints, so that a run that was killed goes on.

    Raises:
        ValueError: no pair that is short enough, a model that is not causal, or a tokenizer without EOS.
        FloatingPointError: the loss is not finite.
    """
    config = config or DPOConfig()
    language = LanguageModel(model)  # which checks it, and switches dropout off
    choices = choices_of(rankings, tokenizer)
    choices = within(config, choices, lambda item: max(len(item.chosen.tokens), len(item.rejected.tokens)), "pairs")
    collator = ChoiceCollator(padding_of(tokenizer))
    with _without_adapters(language, reference):
        choices = with_reference(reference or model, choices, collator, config)
    used, held = split_by_prompt(choices, lambda item: item.prompt, config.held_out, config.seed)
    options: dict[str, Any] = {"data_collator": collator, "processing_class": tokenizer}
    options |= {"beta": config.beta, "smoothing": config.smoothing, "train_dataset": used}
    trainer = train(lambda args: DPOTrainer(model, args, **options), config, folder)
    margins = (margin_report(model, items, collator, config) for items in (used, held))
    return DPOReport(trainer.state.global_step, training_loss(trainer), *margins)


def choices_of(rankings: Iterable[Ranking], tokenizer: PreTrainedTokenizerBase) -> list[Choice]:
    """All pairs of rankings that are no ties, as tokens; each response is ended by EOS."""

    def side(row: dict[str, str], name: str) -> Encoded:
        return encode(tokenizer, row["prompt"], row[name])

    return [Choice(row["prompt"], side(row, "chosen"), side(row, "rejected")) for row in preferences(rankings)]


def response_log_probs(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Log-probabilities [2 B] of whole responses, their EOS included."""
    log_probs, rows = labelled_log_probs(model, inputs["input_ids"], inputs["attention_mask"], inputs["goal"])
    return log_probs.new_zeros(len(inputs["goal"])).index_add(0, rows, log_probs)


def with_reference(
    reference: nn.Module, choices: Sequence[Choice], collator: ChoiceCollator, config: DPOConfig
) -> list[Choice]:
    """The same pairs with the log-probabilities that this model gives them."""
    known = _log_probs(reference, choices, collator, config).tolist()
    return [
        item._replace(reference=(chosen, rejected)) for item, (chosen, rejected) in zip(choices, known, strict=True)
    ]


def margin_report(
    model: nn.Module, choices: Sequence[Choice], collator: ChoiceCollator, config: DPOConfig
) -> MarginReport:
    """Where the model stands on pairs, relative to the reference that they have."""
    gains = _log_probs(model, choices, collator, config)
    gains -= torch.tensor([item.reference for item in choices]).reshape(-1, 2)
    chosen, rejected = gains.double().unbind(1)
    right = float(accuracy(chosen, rejected, torch.ones_like(chosen)))
    return MarginReport(right, float((chosen - rejected).mean()), float(chosen.mean()), len(choices))


@torch.no_grad()
def _log_probs(model: nn.Module, choices: Sequence[Choice], collator: ChoiceCollator, config: DPOConfig) -> Tensor:
    """Log-probabilities [B, 2] of pairs, a batch at a time, computed as they are in training but without gradients."""
    model.eval()
    device, found = next(model.parameters()).device, [torch.zeros(0, 2)]
    for start in range(0, len(choices), config.batch_size):
        batch = {name: value.to(device) for name, value in collator(choices[start : start + config.batch_size]).items()}
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.bf16):
            found.append(torch.stack(response_log_probs(model, batch).chunk(2), dim=1).float().cpu())
    return torch.cat(found)


def _without_adapters(language: LanguageModel, reference: nn.Module | None) -> AbstractContextManager[Any]:
    """Where the reference is the model itself: its adapters, if there are any, are off."""
    off = reference is None and language.has_adapters
    return language.model.disable_adapter() if off else nullcontext()  # type: ignore[operator]
