"""Supervised fine-tuning: the first of InstructGPT's three steps, a `transformers.Trainer` that computes a loss."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from prefgym.agents.fine_tuning import (
    IGNORED,
    Encoded,
    FineTuningConfig,
    LossTrainer,
    encode,
    labelled_log_probs,
    padded,
    padding_of,
    split_by_prompt,
    train,
    within,
)
from prefgym.agents.trainer_callbacks import training_loss
from prefgym.text import Demonstration


@dataclass(frozen=True)
class SFTConfig(FineTuningConfig):
    """Options of supervised fine-tuning; see `FineTuningConfig`, whose items are demonstrations here."""

    epochs: float = 3.0


@dataclass(frozen=True)
class SFTReport:
    """What came out; losses in nats a token of the responses, nan where nothing was held out.

    Attributes:
        steps: optimizer steps taken.
        training_loss: mean over the training, so of a model that was still learning.
        initial_loss: before, on the held-out demonstrations.
        held_out_loss: after, on the same.
        demonstrations: trained on.
        held_out: demonstrations that were not.
    """

    steps: int
    training_loss: float
    initial_loss: float
    held_out_loss: float
    demonstrations: int
    held_out: int


class ResponseCollator:
    """Batches of demonstrations: tokens and mask [B, L], and labels [B, L] on the response and its EOS alone.

    Args:
        padding: any token; it is never a label where it pads, and always one where it was written.
    """

    def __init__(self, padding: int) -> None:
        self.padding = padding

    def __call__(self, items: Sequence[Encoded]) -> dict[str, Tensor]:
        """The batch."""
        tokens, mask = padded([item.tokens for item in items], self.padding)
        places = torch.arange(tokens.shape[1])
        starts = torch.tensor([item.start for item in items])
        labels = tokens.masked_fill((mask == 0) | (places < starts[:, None]), IGNORED)
        return {"input_ids": tokens, "attention_mask": mask, "labels": labels}


class SFTTrainer(LossTrainer):
    """Mean loss a token of the responses, over all that an optimizer step sees, however it is accumulated."""

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The loss; `num_items_in_batch` is how many tokens count in the whole step."""
        log_probs, _ = labelled_log_probs(model, inputs["input_ids"], inputs["attention_mask"], inputs["labels"])
        if num_items_in_batch is None:
            loss = -log_probs.mean()
        else:  # the gradients of processes are averaged, so each gives its share times their number
            processes = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
            loss = -log_probs.sum() / num_items_in_batch * processes
        return (loss, {}) if return_outputs else loss


def sft(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    demonstrations: Iterable[Demonstration | tuple[str, str]],
    config: SFTConfig | None = None,
    folder: str | Path | None = None,
) -> SFTReport:
    """Trains a causal language model to respond as the demonstrations do.

    Args:
        model: trained in place; full weights, or those that require gradients (peft's adapters).
        tokenizer: needs an EOS; its padding token and side do not matter.
        demonstrations: prompts and responses.
        config: see `SFTConfig`.
        folder: for checkpoints, so that a run that was killed goes on.

    Raises:
        ValueError: no demonstration that is short enough, or a tokenizer without EOS.
        FloatingPointError: the loss is not finite.
    """
    config = config or SFTConfig()
    items = [(prompt, encode(tokenizer, prompt, response)) for prompt, response in demonstrations]
    items = within(config, items, lambda item: len(item[1].tokens), "demonstrations")
    used, held = split_by_prompt(items, lambda item: item[0], config.held_out, config.seed)
    collator = ResponseCollator(padding_of(tokenizer))
    rows, spared = [item for _, item in used], [item for _, item in held]
    before = response_loss(model, spared, collator, config.batch_size)
    options: dict[str, Any] = {"data_collator": collator, "processing_class": tokenizer}
    trainer = train(lambda args: SFTTrainer(model, args, train_dataset=rows, **options), config, folder)
    after = response_loss(model, spared, collator, config.batch_size)
    losses = training_loss(trainer), before, after
    return SFTReport(trainer.state.global_step, *losses, len(rows), len(spared))


@torch.no_grad()
def response_loss(model: nn.Module, items: Sequence[Encoded], collator: ResponseCollator, batch_size: int) -> float:
    """Mean loss over the tokens of the responses, in nats; nan without any. Leaves the model in evaluation mode."""
    model.eval()
    device = next(model.parameters()).device
    total, count = 0.0, 0
    for start in range(0, len(items), batch_size):
        batch = collator(items[start : start + batch_size])
        log_probs, _ = labelled_log_probs(model, *(tensor.to(device) for tensor in batch.values()))
        total, count = total - float(log_probs.sum()), count + len(log_probs)
    return total / count if count else math.nan
