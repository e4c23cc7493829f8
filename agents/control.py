"""Presets of stable-baselines3's algorithms for control from a learned reward; none is forked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv


@dataclass(frozen=True)
class PPOConfig:
    """Options of `stable_baselines3.PPO`, by its names, with what was found good on the backflip.

    Attributes:
        n_steps: steps per environment and rollout.
        batch_size: of a minibatch.
        n_epochs: passes over a rollout.
        learning_rate: of Adam.
        gamma: discount.
        gae_lambda: of generalised advantage estimation.
        ent_coef: weight of the entropy bonus.
        hidden: width of the two hidden layers of policy and value.
    """

    n_steps: int = 32
    batch_size: int = 2048
    n_epochs: int = 6
    learning_rate: float = 1e-3
    gamma: float = 0.99
    gae_lambda: float = 0.95
    ent_coef: float = 0.0
    hidden: int = 64


def make_ppo(env: VecEnv, config: PPOConfig, seed: int, **options: Any) -> PPO:
    """PPO with an MLP policy on the CPU, where small networks are fastest."""
    return PPO(
        "MlpPolicy",
        env,
        n_steps=config.n_steps,
        batch_size=config.batch_size,
        n_epochs=config.n_epochs,
        learning_rate=config.learning_rate,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        ent_coef=config.ent_coef,
        policy_kwargs={"net_arch": [config.hidden, config.hidden]},
        seed=seed,
        device="cpu",
        **options,
    )
