"""PPO-ptx: the pretraining gradient beside PPO's, by a hook on the optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from prefgym.agents import distributed
from prefgym.agents.scoring import TokenScorer


class PretrainingMix:
    """Adds the gradient of coefficient × next-token loss on pretraining text to PPO's, before every optimizer step.

    SB3 has clipped PPO's gradient by then; the sum is not clipped again, so that the mix keeps its weight (InstructGPT
    too adds the gradients). The loss is the mean over tokens, at temperature 1.

    Args:
        scorer: of the policy; shares its model.
        texts: token numbers of each text, its end included; of at least 2 tokens each.
        coefficient: weight of the loss.
        batch_size: texts a step, drawn with replacement.
        seed: of the draws.

    Attributes:
        loss: of the last step, nats a token.

    Raises:
        ValueError: no texts, or one of fewer than 2 tokens.
    """

    def __init__(
        self, scorer: TokenScorer, texts: Sequence[Sequence[int]], coefficient: float, batch_size: int, seed: int = 0
    ) -> None:
        short = [number for number, text in enumerate(texts) if len(text) < 2]
        if not texts or short:
            got = f"text {short[0]} with {len(texts[short[0]])}" if short else "no text"
            raise ValueError(f"`pretraining` must be texts of at least 2 tokens each, got {got}")
        self.door = scorer.within
        self.scorer = TokenScorer(scorer.language, None, replace(scorer.options, temperature=1.0, entropy=False))
        self.texts, self.coefficient, self.batch_size = texts, coefficient, batch_size
        self.generator = torch.Generator().manual_seed(seed)
        self.loss = float("nan")

    def attach(self, optimizer: torch.optim.Optimizer) -> Any:
        """Registers the hook; the handle that is returned has `remove()`."""
        return optimizer.register_step_pre_hook(lambda *_: self.add_gradient())

    def get_state(self) -> dict[str, Any]:
        """Where the draws stand."""
        return {"generator": self.generator.get_state().numpy()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go back to a state from `get_state`."""
        self.generator.set_state(torch.from_numpy(state["generator"]))

    @torch.enable_grad()
    def add_gradient(self) -> None:
        """Adds a batch's gradient to that of the model's weights."""
        tokens, written = self._batch()
        log_probs = self.door(self.scorer, tokens, written).log_probs
        distributed.balance(len(log_probs), log_probs)
        loss = -log_probs.mean()
        (self.coefficient * loss).backward()
        self.loss = float(loss.detach())

    def _batch(self) -> tuple[Tensor, Tensor]:
        """Right-padded texts [b, L], and where their tokens are predicted: all but the first."""
        chosen = torch.randint(len(self.texts), [self.batch_size], generator=self.generator).tolist()
        texts = [torch.as_tensor(self.texts[number]) for number in chosen]
        tokens = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)
        lengths = torch.tensor([len(text) for text in texts])
        places = torch.arange(tokens.shape[1])
        written = (places > 0) & (places < lengths[:, None])
        device = self.scorer.language.plain.device
        return tokens.to(device), written.to(device)
