"""What SFT, the reward model and DPO share: options, tokens, padding, splits, and a `transformers.Trainer`."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedTokenizerBase, Trainer, TrainingArguments
from transformers.utils import logging as progress_bars

from prefgym.agents import distributed
from prefgym.agents.control import check_positive
from prefgym.agents.trainer_callbacks import (
    attach,
    last_checkpoint,
    own_randomness,
    training_loss,
    without_false_alarms,
)

logger = logging.getLogger(__name__)

IGNORED = -100
"""Label of a token that no loss counts, as everywhere in transformers."""

CHUNK = 1024
"""Tokens whose log-probabilities [CHUNK, V] exist at a time in float32."""

Item = TypeVar("Item")

_CHECKPOINTING = next(
    n for n in ("activation_checkpointing", "gradient_checkpointing") if hasattr(TrainingArguments, n)
)


@dataclass(frozen=True)
class FineTuningConfig:
    """Options that SFT, the reward model and DPO have in common.

    Attributes:
        epochs: passes over the data.
        batch_size: items (demonstrations, rankings or pairs) a device and forward.
        accumulation: forwards before an optimizer step: a step sees batch_size × accumulation × devices items.
        learning_rate: of AdamW, at its highest; it rises over the first `warmup` share of the steps and falls to 0 as
            a cosine. 1e-5 suits full weights of a real model, 1e-4 LoRA, 1e-3 less than a million parameters.
        warmup: share of the steps.
        weight_decay: of AdamW.
        max_grad_norm: gradients are clipped to this norm.
        max_length: tokens of prompt and response together; longer items are left out, counted and logged.
        held_out: share of the prompts that nothing is trained on, for the report.
        bf16: bfloat16 autocast.
        gradient_checkpointing: compute activations anew in the backward, layer by layer.
        save_steps: optimizer steps between checkpoints; 0 counts none. Only where a folder is given.
        save_seconds: seconds between checkpoints, at least, and 33 times what one takes; 0 goes by the steps alone.
        progress: show a progress bar.
        seed: of the order of the data, the split, and all else that is random.
    """

    epochs: float = 1.0
    batch_size: int = 16
    accumulation: int = 1
    learning_rate: float = 1e-5
    warmup: float = 0.05
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    max_length: int = 1024
    held_out: float = 0.1
    bf16: bool = False
    gradient_checkpointing: bool = False
    save_steps: int = 0
    save_seconds: float = 0.0
    progress: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_positive(self, "epochs", "batch_size", "accumulation", "learning_rate", "max_grad_norm", "max_length")
        for name in ("warmup", "held_out"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be in [0, 1), got {getattr(self, name)}")
        for name in ("weight_decay", "save_steps", "save_seconds", "seed"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"`{name}` must be at least 0, got {getattr(self, name)}")

    def arguments(self, folder: str | Path, **changes: Any) -> TrainingArguments:
        """As `transformers.Trainer` wants them; `changes` are its own options, such as fsdp= or deepspeed=."""
        options: dict[str, Any] = {
            "output_dir": str(folder),
            "num_train_epochs": self.epochs,
            "per_device_train_batch_size": self.batch_size,
            "per_device_eval_batch_size": self.batch_size,
            "gradient_accumulation_steps": self.accumulation,
            "learning_rate": self.learning_rate,
            "lr_scheduler_type": "cosine",
            "warmup_steps": self.warmup,
            "weight_decay": self.weight_decay,
            "max_grad_norm": self.max_grad_norm,
            "bf16": self.bf16,
            _CHECKPOINTING: self.gradient_checkpointing,
            "save_strategy": "steps" if self.save_steps else "no",
            "save_steps": self.save_steps or 500,
            "save_total_limit": 1,
            "logging_steps": 10,
            "logging_nan_inf_filter": False,
            "disable_tqdm": not self.progress,
            "report_to": [],
            "remove_unused_columns": False,
            "dataloader_pin_memory": torch.cuda.is_available(),
            "use_cpu": not torch.accelerator.is_available(),  # or several processes on CPUs would not find each other
            "ddp_find_unused_parameters": False,
            "seed": self.seed,
        }
        return TrainingArguments(**options | changes)


class Encoded(NamedTuple):
    """Tokens of a prompt and a response to it.

    Attributes:
        tokens: ids, the response's end included.
        start: where the response begins.
    """

    tokens: tuple[int, ...]
    start: int


def encode(tokenizer: PreTrainedTokenizerBase, prompt: str, response: str) -> Encoded:
    """Tokens of a prompt and a response that has ended: EOS comes last.

    The two are tokenised apart, since a policy goes on from the prompt's tokens, and are never joined as text.

    Raises:
        ValueError: the tokenizer has no EOS.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError("`tokenizer` must have an EOS token, such as after tokenizer.eos_token = '</s>'; got None")
    before, after = _prompt(tokenizer, prompt), _ids(tokenizer, response, special=False)
    return Encoded((*before, *after, tokenizer.eos_token_id), len(before))


def _prompt(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """A prompt as the text environment begins with it: BOS where the tokenizer puts it; something, even if empty."""
    fallback = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    return _ids(tokenizer, prompt, special=True) or [fallback]


def within(config: FineTuningConfig, items: Sequence[Item], length: Callable[[Item], int], name: str) -> list[Item]:
    """The items of at most `max_length` tokens; how many are left out is logged.

    Raises:
        ValueError: none is left.
    """
    kept = [item for item in items if length(item) <= config.max_length]
    if not kept:
        raise ValueError(f"there must be {name} of at most `max_length` = {config.max_length} tokens, got none")
    if len(kept) < len(items):
        left_out = len(items) - len(kept)
        logger.warning("%d of %d %s have over %d tokens: left out", left_out, len(items), name, config.max_length)
    return kept


def split_by_prompt(
    items: Sequence[Item], prompt: Callable[[Item], str], share: float, seed: int
) -> tuple[list[Item], list[Item]]:
    """Items to train on and items held out: all items of a prompt are on one side.

    At least one prompt is trained on and, if `share` is more than 0 and there are two, at least one is held out.
    """
    prompts = sorted({prompt(item) for item in items})
    count = min(max(round(share * len(prompts)), 1 if share else 0), len(prompts) - 1)
    held = set(random.Random(seed).sample(prompts, count))
    return [item for item in items if prompt(item) not in held], [item for item in items if prompt(item) in held]


def padded(rows: Sequence[Sequence[int]], padding: int) -> tuple[Tensor, Tensor]:
    """Right-padded tokens [B, L], whatever side the tokenizer pads on, and mask [B, L], 1 for tokens.

    The mask comes from lengths, so that the padding may be any token, EOS too.
    """
    width = max(map(len, rows))
    tokens = [[*row] + [padding] * (width - len(row)) for row in rows]
    mask = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
    return torch.tensor(tokens), torch.tensor(mask)


def padding_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token to pad with: the tokenizer's, or EOS where it has none."""
    return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)


def labelled_log_probs(model: nn.Module, tokens: Tensor, mask: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities [M] of the labelled tokens in row-major order, in float32, and the row of each [M].

    Goes through the model's own forward, as FSDP and DeepSpeed need it, and asks for logits from the first label on.

    Args:
        model: a causal language model.
        tokens: [B, L], right-padded.
        mask: [B, L].
        labels: [B, L], the token where it counts, `IGNORED` elsewhere; never at a row's first token.
    """
    goal = labels[:, 1:]
    begin = int((goal != IGNORED).any(0).nonzero().min())
    goal = goal[:, begin:]
    places = torch.arange(begin, labels.shape[1] - 1, device=labels.device)
    options = {"logits_to_keep": places} if _can_keep(model) else {}
    logits = model(input_ids=tokens, attention_mask=mask, use_cache=False, **options).logits
    logits = logits if options else logits[:, places]
    counted = goal != IGNORED
    return _gathered(logits[counted], goal[counted]), counted.nonzero()[:, 0]


class LossTrainer(Trainer):
    """A `Trainer` whose subclasses compute a loss in `compute_loss`; it is also what evaluates."""

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Tensor, None, None]:
        """The loss of a batch, without gradients."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.compute_loss(model, inputs).detach(), None, None  # type: ignore[union-attr]


def train(make: Callable[[TrainingArguments], Trainer], config: FineTuningConfig, folder: str | Path | None) -> Trainer:
    """Trains what `make` makes of its arguments, quietly; global generators are left as they were.

    Args:
        make: makes the trainer.
        config: its options.
        folder: for checkpoints; a run that was killed goes on from its last one. None keeps none.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    with own_randomness(), quiet(not config.progress), without_false_alarms(), TemporaryDirectory() as nowhere:
        arguments = config.arguments(folder or nowhere, **({} if folder else {"save_strategy": "no"}))
        trainer = make(arguments)
        attach(trainer, config.progress, config.save_seconds if folder else 0.0)
        begun = distributed.of_first(lambda: last_checkpoint(folder)) if folder else None
        trainer.train(resume_from_checkpoint=begun)
    loss = training_loss(trainer)
    if not np.isfinite(loss):
        raise FloatingPointError(f"the training loss must be finite, got {loss}: lower `learning_rate`")
    return trainer


@contextmanager
def quiet(wanted: bool = True) -> Iterator[None]:
    """Without the progress bars that transformers shows while it writes files."""
    shown = progress_bars.is_progress_bar_enabled()
    if wanted:
        progress_bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            progress_bars.enable_progress_bar()


def _ids(tokenizer: PreTrainedTokenizerBase, text: str, special: bool) -> list[int]:
    return list(tokenizer(text, add_special_tokens=special)["input_ids"]) if text else []


def _can_keep(model: Any) -> bool:
    """Whether the model, inside of what training wraps it in, can leave logits out."""
    while hasattr(model, "module"):
        model = model.module
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in signature(plain.forward).parameters


def _gathered(logits: Tensor, goal: Tensor) -> Tensor:
    """Log-probabilities [M] from logits [M, V]; float32 exists for a chunk at a time, in either direction."""
    parts = zip(logits.split(CHUNK), goal.split(CHUNK), strict=True)
    if not torch.is_grad_enabled() or len(goal) <= CHUNK:
        return torch.cat([_log_probs(*part) for part in parts])
    return torch.cat([checkpoint(_log_probs, *part, use_reentrant=False, preserve_rng_state=False) for part in parts])


def _log_probs(logits: Tensor, goal: Tensor) -> Tensor:
    return -functional.cross_entropy(
        logits.to(torch.promote_types(logits.dtype, torch.float32)), goal, reduction="none"
    )
