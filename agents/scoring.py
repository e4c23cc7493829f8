"""Log-probabilities, entropies and values of the tokens that a policy wrote, by one teacher-forced forward."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from prefgym.agents.language_model import LanguageModel

Result = TypeVar("Result")


@dataclass(frozen=True)
class ScoringOptions:
    """How much is computed at a time, and how precisely; none of it but `bf16` changes a result.

    Attributes:
        temperature: logits are divided by it.
        chunk_tokens: written tokens whose logits [chunk_tokens, V] exist at a time, in either direction.
        micro_batch_size: sequences whose activations exist at a time in training; they are computed anew in the
            backward, which costs a forward more. None is all of a minibatch, computed once.
        rollout_batch_size: sequences at a time without gradients. None is all.
        bf16: run the models under bfloat16 autocast; log-probabilities and values are float32 all the same.
        entropy: whether entropies are computed.
    """

    temperature: float = 1.0
    chunk_tokens: int = 1024
    micro_batch_size: int | None = None
    rollout_batch_size: int | None = None
    bf16: bool = False
    entropy: bool = False

    def autocast(self, device: torch.device) -> AbstractContextManager[None]:
        """bfloat16 autocast, or nothing."""
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.bf16)


class Scores(NamedTuple):
    """Of the written tokens, flattened in row-major order [M].

    Attributes:
        log_probs: [M].
        values: [M] of the state before each token; zeros without a critic.
        entropies: [M] of the distribution that each token was drawn from; None unless asked for.
    """

    log_probs: Tensor
    values: Tensor
    entropies: Tensor | None


class ValueHead(nn.Module):
    """A linear value on the policy's trunk, 0 at first.

    Args:
        width: D of the trunk.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, states: Tensor) -> Tensor:
        """Values [...] of hidden states [..., D]."""
        return self.linear(states.to(self.linear.weight.dtype))[..., 0]


class Critic(nn.Module):
    """A model of its own that gives a value at every token, initialised from a reward model.

    Args:
        model: an `AutoModelForSequenceClassification` with one label whose score is linear in a causal trunk's hidden
            states; it is trained from here on, so hand over a copy if the reward model is used elsewhere.

    Raises:
        ValueError: the model has no such score.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        score = getattr(model, "score", None)
        if not isinstance(score, nn.Linear) or score.out_features != 1:
            raise ValueError(f"`critic` must be a sequence classifier with a linear `score` to 1, got {score}")
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        """Values [B, L] after each of the right-padded tokens [B, L]."""
        states = self.model.base_model(input_ids=tokens, use_cache=False).last_hidden_state  # type: ignore[operator]
        return self.model.score(states)[..., 0].to(torch.promote_types(states.dtype, torch.float32))  # type: ignore[operator]


class TokenScorer(nn.Module):
    """Scores what was written in right-padded sequences. Everything of the policy with weights is in here.

    Args:
        language: the model.
        critic: a head on its trunk, a model of its own, or None for values of 0.
        options: how.
    """

    def __init__(
        self, language: LanguageModel, critic: ValueHead | Critic | None = None, options: ScoringOptions | None = None
    ) -> None:
        super().__init__()
        self.language, self.critic, self.options = language, critic, options or ScoringOptions()

    def forward(self, tokens: Tensor, written: Tensor, targets: Tensor | None = None) -> Scores:
        """Scores the written tokens.

        Args:
            tokens: [B, L], right-padded by any token of the vocabulary.
            written: [B, L], where the policy wrote the token; never at a row's first.
            targets: [M], the tokens scored in their place; None is `tokens` where written.
        """
        written = written.bool()
        end = int(written.any(0).nonzero().max()) + 1
        tokens, written = tokens[:, :end], written[:, :end]
        targets = tokens[written] if targets is None else targets
        options = self.options
        rows = (options.micro_batch_size if torch.is_grad_enabled() else options.rollout_batch_size) or len(tokens)
        counts = [int(part.sum()) for part in written.split(rows)]
        batches = zip(tokens.split(rows), written.split(rows), targets.split(counts), strict=True)
        parts = [_saving(self._score, len(counts) > 1)(*batch) for batch in batches]
        log_probs, values, entropies = (torch.cat(column) for column in zip(*parts, strict=True))
        return Scores(log_probs, values, entropies if options.entropy else None)

    def within(self, function: Callable[..., Result], *inputs: Any) -> Result:
        """What a function that uses the weights returns: another door to them, where FSDP2 has them shared out."""
        return function(*inputs)

    def log_probs(self, tokens: Tensor, written: Tensor) -> Tensor:
        """Log-probabilities [M] of the written tokens alone, without gradients."""
        with torch.no_grad():
            return self(tokens, written).log_probs

    def values(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Values [B] of the states that right-padded tokens [B, L] of these lengths [B] are."""
        if self.critic is None:
            return torch.zeros(len(tokens), device=tokens.device)
        last = (lengths - 1).clamp(min=0)[:, None]
        with self.options.autocast(tokens.device):
            if isinstance(self.critic, Critic):
                return self.critic(tokens).gather(1, last)[:, 0]
            states = self.language.hidden(tokens)
        return self.critic(states[torch.arange(len(tokens), device=tokens.device), last[:, 0]])

    def _score(self, tokens: Tensor, written: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities, values and entropies [m] of some rows; the state before a token is at its left."""
        before = written[:, 1:]
        with self.options.autocast(tokens.device):
            states = self.language.hidden(tokens[:, :-1])[before]
            log_probs, entropies = self._chunked(states, targets)
            values = self.critic(tokens[:, :-1])[before] if isinstance(self.critic, Critic) else None
        if isinstance(self.critic, ValueHead):
            values = self.critic(states)
        return log_probs, torch.zeros_like(log_probs) if values is None else values, entropies

    def _chunked(self, states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        size = self.options.chunk_tokens
        chunks = list(zip(states.split(size), targets.split(size), strict=True))
        parts = [_saving(self._of_logits, len(chunks) > 1)(*chunk) for chunk in chunks]
        log_probs, entropies = zip(*parts, strict=True)
        return torch.cat(log_probs), torch.cat(entropies)

    def _of_logits(self, states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies [c] from hidden states [c, D]."""
        logits = self.language.logits(states)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) / self.options.temperature
        log_probs = -functional.cross_entropy(logits, targets, reduction="none")
        if not self.options.entropy:
            return log_probs, torch.zeros_like(log_probs)
        every = logits.log_softmax(-1)
        return log_probs, -(every.exp() * every).sum(-1)


def _saving(function: Callable, wanted: bool) -> Callable:
    """The function, or, where gradients are taken, one that keeps its inputs only and computes anew in the backward."""
    if not wanted or not torch.is_grad_enabled():
        return function
    return lambda *inputs: checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)
