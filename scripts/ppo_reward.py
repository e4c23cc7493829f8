"""A reward model as the reward of a text environment."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from prefgym.agents.fine_tuning import encode, quiet
from prefgym.agents.reward_heads import load_reward_model, recentre
from prefgym.agents.text_policy import TextPolicy, load_tokenizer
from prefgym.agents.text_reward import TextRewardEnsemble
from prefgym.scripts.text_training import Plain

logger = logging.getLogger(__name__)


class ModelReward:
    """A reward model as the reward of a text environment, whatever its tokenizer.

    Where that is the policy's own the model is given the very tokens, else the texts, tokenised anew. A score that is
    no finite number is the reward 0, and counted.

    Args:
        source: folder or hub id of the reward model, or folder of a run that has one.
        policy: who writes.
        plain: its prompts.
        device: where the model is to be.
        penalty: taken from the reward of a response that does not come to an end.

    Attributes:
        bad: scores so far that were no finite numbers.

    Raises:
        OSError: there is no such model, or it cannot be reached, or it has no tokenizer.
        ValueError: it has several labels, or, having another vocabulary than the policy, a tokenizer that is not its.
    """

    def __init__(
        self,
        source: str,
        policy: TextPolicy,
        plain: Plain,
        device: torch.device | str = "cpu",
        penalty: float = 0.0,
    ) -> None:
        inner = Path(source) / "reward"  # in a run of prefgym text
        source = str(inner) if (inner / "config.json").exists() else source
        tokenizer = load_tokenizer(source)
        with quiet():
            model = load_reward_model(source).to(device)
        self.ensemble = TextRewardEnsemble(model, warm=True)
        self.policy, self.plain, self.penalty, self.bad = policy, plain, penalty, 0
        self.own = TextPolicy(model, tokenizer, bool(tokenizer.chat_template))
        room = self.own.vocabulary >= policy.vocabulary  # a model may say more tokens than its tokenizer has
        self._same = room and tokenizer.get_vocab() == policy.tokenizer.get_vocab()
        if not self._same:
            _ = self.own.codec  # which checks the tokenizer

    def normalise(self, prompts: Sequence[str], *, seed: int, room: tuple[int, int]) -> None:
        """Gives the rewards of what the policy says now the mean 0 and the deviation 1.

        Args:
            prompts: as people write them.
            seed: of what is said.
            room: tokens of a prompt and of a response.
        """
        said = self.policy.write(prompts, seed=seed, max_prompt_tokens=room[0], max_tokens=room[1])
        recentre(self.ensemble.model, [self._row(asked + answer, len(asked)) for asked, answer in said], scale=True)

    def __call__(self, observations: Mapping[str, np.ndarray], actions: np.ndarray) -> np.ndarray:
        """Rewards [N]: of the rows whose response has just ended; 0 of others."""
        rewards = np.zeros(len(observations["tokens"]))
        ended = np.flatnonzero((observations["waiting"] == 1) & (observations["length"] > 0))
        if len(ended):
            tokens = [observations["tokens"][row, : observations["length"][row]].tolist() for row in ended]
            starts = observations["prompt_length"][ended].tolist()
            scores = self._checked(self.ensemble.score([*map(self._row, tokens, starts)]))
            rewards[ended] = scores - self.penalty * np.array([not self._ends(one) for one in tokens])
        return rewards

    def _ends(self, tokens: Sequence[int]) -> bool:
        return tokens[-1] in self.policy.codec.ends

    def _row(self, tokens: list[int], start: int) -> Sequence[int]:
        """Tokens of prompt and response, those from `start` on, as the reward model is given them."""
        if self._same:
            return tokens
        prompt, response = self.plain.decode(tokens[:start]), self.policy.codec.text(tokens[start:])
        return encode(self.own.tokenizer, self.own.put(prompt), response).tokens

    def _checked(self, scores: np.ndarray) -> np.ndarray:
        right = np.isfinite(scores)
        if not right.all() and not self.bad:
            logger.warning(
                "The reward model gave %s: such samples get the reward 0, and are counted", scores[~right][0]
            )
        self.bad += int((~right).sum())
        return np.where(right, scores, 0.0)
