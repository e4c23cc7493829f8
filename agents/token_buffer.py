"""SB3's rollout buffer for responses: every token is stored once, and batches are of sequences."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.type_aliases import DictRolloutBufferSamples
from torch import Tensor

from prefgym.agents import advantages as maths
from prefgym.agents import distributed
from prefgym.agents.advantages import KLPenalty


class Author(Protocol):
    """The policy that fills the buffer."""

    weights: Tensor
    """Importance weights [N] of the tokens handed out last."""

    def reference_log_probs(self, tokens: Tensor, written: Tensor) -> Tensor:
        """Log-probabilities [M] of the written tokens under the reference policy."""


class TokenRolloutBuffer(DictRolloutBuffer):
    """A rollout of whole responses, one a row, under SB3's `PPO`.

    It takes one token of every row a step, but keeps each row as one sequence [L]. Steps in which a row waits are left
    out. `get` counts sequences, and yields what was written in them, flattened in row-major order [M]: so PPO's means
    are over written tokens, and its `train` needs no mask.

    What is learned from: the environment's rewards, and the price of leaving the reference (see `KLPenalty`), whose
    coefficient adapts after it was used.

    Of several processes each has a buffer, of N rows; means, deviations and the coefficient are those of all rows.

    Args:
        buffer_size: steps of a rollout: those of one whole episode.
        observation_space: of the text environment.
        action_space: its Discrete(V).
        device: of the batches.
        gae_lambda: of generalised advantage estimation.
        gamma: discount per token.
        n_envs: N rows.
        kl: price of leaving the reference.
        advantage: "gae" with the critic's values; "rloo" or "grpo" from the returns of K responses to one prompt,
            which stand in K rows in succession. Every token then has its response's advantage.
        samples_per_prompt: K.
        whiten_rewards: divide the penalised rewards by their deviation over the written tokens, keeping their mean.
        whiten_advantages: bring the GAE advantages to mean 0 and deviation 1 over the rollout.

    Attributes:
        policy: who wrote; `make_text_ppo` sets it.
        statistics: of the last rollout: "kl" (nats per response, by the estimator), "kl_coefficient" (as used), "score"
            (the environment's reward per response), "length" (tokens per response).
        notes: of each token of the last rollout [N, T], for the environment's `annotate`: "rewards" and "kl".

    Raises:
        ValueError: a row starts amid an episode, or its episode has not ended with the rollout; an unknown advantage.
    """

    weights: np.ndarray

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Dict,
        action_space: spaces.Space,
        device: torch.device | str = "auto",
        gae_lambda: float = 1.0,
        gamma: float = 1.0,
        n_envs: int = 1,
        *,
        kl: KLPenalty | None = None,
        advantage: str = "gae",
        samples_per_prompt: int = 1,
        whiten_rewards: bool = False,
        whiten_advantages: bool = True,
    ) -> None:
        if advantage not in maths.ADVANTAGES:
            raise ValueError(f"`advantage` must be one of {', '.join(maths.ADVANTAGES)}, got {advantage!r}")
        self.kl, self.advantage, self.samples_per_prompt = kl or KLPenalty(), advantage, samples_per_prompt
        self.whiten_rewards, self.whiten_advantages = whiten_rewards, whiten_advantages
        self.policy: Author | None = None
        self.statistics: dict[str, float] = {}
        self.notes: dict[str, np.ndarray] = {}
        super().__init__(buffer_size, observation_space, action_space, device, gae_lambda, gamma, n_envs)

    def reset(self) -> None:
        """Forget the rollout."""
        rows, steps = self.n_envs, self.buffer_size
        self.tokens = np.zeros((rows, *self.observation_space["tokens"].shape), dtype=np.int64)  # type: ignore[misc]
        self.prompts = np.zeros(rows, dtype=np.int64)
        self.written = np.zeros(self.tokens.shape, dtype=bool)
        self.live = np.zeros((rows, steps), dtype=bool)
        for name in ("rewards", "values", "log_probs", "weights"):
            setattr(self, name, np.zeros((rows, steps), dtype=np.float32))
        super(RolloutBuffer, self).reset()

    def add(  # type: ignore[override]
        self,
        obs: Mapping[str, np.ndarray],
        action: np.ndarray,
        reward: np.ndarray,
        episode_start: np.ndarray,
        value: Tensor,
        log_prob: Tensor,
    ) -> None:
        """Adds a token [N] to every row that does not wait; a row's observation has all of its text so far."""
        rows = np.flatnonzero(np.asarray(obs["waiting"]) == 0)
        place = np.asarray(obs["length"])[rows]
        if self.pos == 0:
            self._begin(obs)
        self.tokens[rows] = np.asarray(obs["tokens"])[rows]
        self.tokens[rows, place] = action.reshape(-1)[rows]
        self.written[rows, place] = self.live[rows, self.pos] = True
        kept = {"rewards": reward, "values": value.flatten(), "log_probs": log_prob, "weights": self._author.weights}
        for name, given in kept.items():
            getattr(self, name)[rows, self.pos] = _array(given)[rows]
        self.pos += 1
        self.full = self.pos == self.buffer_size

    def _begin(self, obs: Mapping[str, np.ndarray]) -> None:
        self.prompts[:] = np.asarray(obs["prompt_length"])
        amid = np.flatnonzero((np.asarray(obs["length"]) != self.prompts) | (np.asarray(obs["waiting"]) != 0))
        if len(amid):
            raise ValueError(f"every row must begin an episode with the rollout, got row {amid[0]} amid one: reset")

    @property
    def _author(self) -> Author:
        if self.policy is None:
            raise ValueError("`policy` must be set to the policy that fills the buffer, as `make_text_ppo` does")
        return self.policy

    def compute_returns_and_advantage(self, last_values: Tensor, dones: np.ndarray) -> None:
        """Penalise, estimate advantages, and keep what was written flattened [M]; `last_values` are not needed."""
        unfinished = np.flatnonzero(self.live[:, -1] & ~np.asarray(dones, dtype=bool))
        if len(unfinished):
            raise ValueError(
                f"`n_steps` must be the environment's `max_response_length`, so that episodes end with the rollout, "
                f"got {self.buffer_size} and row {unfinished[0]} unfinished"
            )
        reference = _array(self._author.reference_log_probs(*self._tensors(np.arange(self.n_envs))))
        log_ratio = self.log_probs - self._grid(reference)
        self.statistics = self._describe(log_ratio)
        rewards = self.rewards + self.kl.reward(log_ratio)
        self.notes = {"rewards": rewards, "kl": self.kl.per_token(log_ratio)}
        if self.whiten_rewards:
            rewards = self._whitened(rewards, shift=False)
        estimates, returns = self._estimates(rewards)
        self._keep(estimates + self.kl.pull(log_ratio), returns)
        self.kl.adapt(self.statistics["kl"], self.n_envs * distributed.size())

    def get_state(self) -> dict[str, float]:
        """The KL coefficient, which may have been adapted; the rollout itself is not kept."""
        return {"kl_coefficient": self.kl.coefficient}

    def set_state(self, state: dict[str, float]) -> None:
        """Go back to a state from `get_state`."""
        self.kl.coefficient = state["kl_coefficient"]

    def _describe(self, log_ratio: np.ndarray) -> dict[str, float]:
        kl, score = self.kl.per_token(log_ratio).sum(1).mean(), self.rewards.sum(1).mean()
        means = distributed.total([kl, score, self.live.sum(1).mean()]) / distributed.size()
        kl, score, length = means.tolist()
        return {"kl": kl, "kl_coefficient": self.kl.coefficient, "score": score, "length": length}

    def _whitened(self, values: np.ndarray, *, shift: bool = True) -> np.ndarray:
        return maths.whiten(values, self.live, shift=shift, moments=distributed.moments(values[self.live]))

    def _estimates(self, rewards: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Advantages and returns [N, T]."""
        if self.advantage == "gae":
            estimates = maths.gae(rewards, self.values, self.live, self.gamma, self.gae_lambda)
            returns = estimates + self.values
            return self._whitened(estimates) if self.whiten_advantages else estimates, returns
        totals = rewards.sum(1)
        relative = (maths.rloo if self.advantage == "rloo" else maths.grpo)(totals, self.samples_per_prompt)
        return self.live * relative[:, None], self.live * totals[:, None]

    def _keep(self, estimates: np.ndarray, returns: np.ndarray) -> None:
        self.index = self._grid(np.arange(self.live.sum()))  # of each token among the flattened
        self.advantages = (estimates * self.weights)[self.live].astype(np.float32)
        self.returns = returns[self.live].astype(np.float32)
        self.values, self.log_probs = self.values[self.live], self.log_probs[self.live]

    def _grid(self, flat: np.ndarray) -> np.ndarray:
        """Puts what belongs to the written tokens [M] where they are [N, T]."""
        grid = np.zeros(self.live.shape, dtype=flat.dtype)
        grid[self.live] = flat
        return grid

    def get(self, batch_size: int | None = None) -> Generator[DictRolloutBufferSamples, None, None]:  # type: ignore[override]
        """Minibatches of so many sequences, in random order; None is all in one."""
        assert self.full, "the rollout is not complete"
        # SB3's generator, so that one seed and one checkpoint have it.
        order = np.random.permutation(self.n_envs)  # noqa: NPY002
        size = batch_size or self.n_envs
        for start in range(0, self.n_envs, size):
            yield self._get_samples(order[start : start + size])

    def _get_samples(self, batch_inds: np.ndarray, env: Any = None) -> DictRolloutBufferSamples:  # type: ignore[override]
        chosen = self.index[batch_inds][self.live[batch_inds]]
        tokens, written = self._tensors(batch_inds)
        return DictRolloutBufferSamples(
            observations={"tokens": tokens, "written": written},
            actions=tokens[written],
            old_values=self.to_torch(self.values[chosen]),
            old_log_prob=self.to_torch(self.log_probs[chosen]),
            advantages=self.to_torch(self.advantages[chosen]),
            returns=self.to_torch(self.returns[chosen]),
        )

    def _tensors(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Tokens and where they were written [b, L] of these rows."""
        return self.to_torch(self.tokens[rows]), self.to_torch(self.written[rows])


def _array(values: Any) -> np.ndarray:
    return values.detach().float().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
