"""Advantages of written tokens, and the price of leaving the reference policy: pure functions of arrays.

Shapes: B sequences, T tokens of a response at most. `live` [B, T] is 1 for the tokens that were written: a row's first
ones. What stands elsewhere is 0, before and after.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

ADVANTAGES = ("gae", "rloo", "grpo")
STEP_LIMIT = 0.2
"""The adaptive coefficient changes as if KL were off its target by this share at most (Ziegler et al. 2019)."""


def k1(log_ratio: np.ndarray) -> np.ndarray:
    """KL per token as log π - log π_ref: unbiased, of either sign."""
    return log_ratio


def k3(log_ratio: np.ndarray) -> np.ndarray:
    """KL per token as r - 1 - log r with r = π_ref / π: unbiased too, never negative, of less variance near 0."""
    return np.expm1(-log_ratio) + log_ratio


ESTIMATORS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"k1": k1, "k3": k3}
"""By the name that `KLPenalty` takes; the letters are Schulman's (http://joschu.net/blog/kl-approx.html)."""


@dataclass
class KLPenalty:
    """What a nat of KL from the reference costs; an adaptive coefficient seeks a target.

    With "k1" it is a part of every token's reward, as in InstructGPT. With "k3" it is the term that GRPO has in its
    loss: the policy gradient of the advantage -(1 - π_ref / π) of each token by itself is that of -k3. As a reward k3
    would lead away from the reference, since its own gradient would be missing (that of k1 is 0 on average).

    Attributes:
        coefficient: reward (or, with k3, advantage) per nat; with a target, where it starts.
        estimator: "k1" or "k3".
        target: KL per response, nats, that the coefficient is adapted to; None leaves it fixed.
        horizon: responses over which the adaptation works: a hundredth of it changes the coefficient by 0.2 % at most.
    """

    coefficient: float = 0.05
    estimator: str = "k1"
    target: float | None = None
    horizon: int = 10_000

    def __post_init__(self) -> None:
        if self.coefficient < 0:
            raise ValueError(f"`kl_coefficient` must not be negative, got {self.coefficient}")
        if self.estimator not in ESTIMATORS:
            raise ValueError(f"`kl_estimator` must be one of {', '.join(ESTIMATORS)}, got {self.estimator!r}")
        if self.target is not None and not self.target > 0:
            raise ValueError(f"`kl_target` must be more than 0, got {self.target}")
        if not self.horizon > 0:
            raise ValueError(f"`kl_horizon` must be more than 0, got {self.horizon}")

    def per_token(self, log_ratio: np.ndarray) -> np.ndarray:
        """The estimate of KL [...] from log π - log π_ref [...]."""
        return ESTIMATORS[self.estimator](log_ratio)

    def reward(self, log_ratio: np.ndarray) -> np.ndarray:
        """What is added to the rewards."""
        return -self.coefficient * log_ratio if self.estimator == "k1" else np.zeros_like(log_ratio)

    def pull(self, log_ratio: np.ndarray) -> np.ndarray:
        """What is added to the advantages, once they are whitened or normalised."""
        return self.coefficient * np.expm1(-log_ratio) if self.estimator == "k3" else np.zeros_like(log_ratio)

    def adapt(self, kl: float, responses: int) -> None:
        """Move the coefficient after so many responses with this KL per response on average."""
        if self.target is not None:
            error = float(np.clip(kl / self.target - 1, -STEP_LIMIT, STEP_LIMIT))
            self.coefficient *= 1 + error * responses / self.horizon


def gae(rewards: np.ndarray, values: np.ndarray, live: np.ndarray, gamma: float, gae_lambda: float) -> np.ndarray:
    """Generalised advantage estimates [B, T]; after a row's last token comes nothing (it terminated)."""
    advantages, following = np.zeros_like(rewards), np.zeros(len(rewards))
    later = np.zeros(len(rewards))
    for step in reversed(range(rewards.shape[1])):
        delta = rewards[:, step] + gamma * later - values[:, step]
        following = live[:, step] * (delta + gamma * gae_lambda * following)
        advantages[:, step], later = following, live[:, step] * values[:, step]
    return advantages


def rloo(returns: np.ndarray, samples: int) -> np.ndarray:
    """Leave-one-out advantages [B] of whole responses (Ahmadian et al. 2024): the return less the others' mean.

    Args:
        returns: [B]; each `samples` in a row answer one prompt.
        samples: K, at least 2.
    """
    groups = _groups(returns, samples)
    others = (groups.sum(1, keepdims=True) - groups) / (samples - 1)
    return (groups - others).reshape(-1)


def grpo(returns: np.ndarray, samples: int) -> np.ndarray:
    """Group-relative advantages [B] of whole responses (Shao et al. 2024): (return - mean) / (deviation + 1e-4).

    The deviation is the sample's (K - 1 in the denominator). Where all returns of a group are equal, 0.

    Args:
        returns: [B]; each `samples` in a row answer one prompt.
        samples: K, at least 2.
    """
    groups = _groups(returns, samples)
    centred = groups - groups.mean(1, keepdims=True)
    return (centred / (groups.std(1, ddof=1, keepdims=True) + 1e-4)).reshape(-1)


def _groups(returns: np.ndarray, samples: int) -> np.ndarray:
    if samples < 2 or len(returns) % samples:
        raise ValueError(
            f"`samples_per_prompt` must be at least 2 and divide the number of responses, {len(returns)}, got {samples}"
        )
    return returns.reshape(-1, samples)


def whiten(
    values: np.ndarray, live: np.ndarray, *, shift: bool = True, moments: tuple[float, float] | None = None
) -> np.ndarray:
    """Divides by the deviation over the written tokens, and takes the mean away if `shift`; 0 elsewhere.

    Args:
        values: [B, T].
        live: [B, T].
        shift: whether the mean is taken away.
        moments: mean and variance to go by, of more than these values; None is theirs.
    """
    kept = values[live > 0]
    mean, variance = moments or (kept.mean(), kept.var())
    white = (values - mean) / np.sqrt(variance + 1e-8)
    return live * (white if shift else white + mean)
