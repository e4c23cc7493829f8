"""Presets of stable-baselines3's algorithms for control from a learned reward; none is forked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stable_baselines3 import PPO, SAC
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from prefgym.agents.relabel import RelabellingReplayBuffer
from prefgym.vector import PreferenceReward


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

    n_steps: int = 64
    batch_size: int = 1024
    n_epochs: int = 6
    learning_rate: float = 1e-3
    gamma: float = 0.99
    gae_lambda: float = 0.95
    ent_coef: float = 0.0
    hidden: int = 64

    def __post_init__(self) -> None:
        check_positive(self, "n_steps", "batch_size", "n_epochs", "learning_rate", "hidden")

    def rollout(self, num_envs: int) -> int:
        """Env steps between two updates."""
        return self.n_steps * num_envs


@dataclass(frozen=True)
class SACConfig:
    """Options of `stable_baselines3.SAC`, by its names; rewards are relabelled whenever a batch is sampled.

    Attributes:
        train_freq: steps per environment between two trainings.
        gradient_steps: of a training.
        batch_size: of a gradient step.
        buffer_size: transitions kept.
        learning_rate: of Adam.
        gamma: discount.
        tau: of the moving average of the critics.
        hidden: width of the two hidden layers of actor and critics.
    """

    train_freq: int = 16
    gradient_steps: int = 32
    batch_size: int = 256
    buffer_size: int = 200_000
    learning_rate: float = 1e-3
    gamma: float = 0.99
    tau: float = 0.005
    hidden: int = 64

    def __post_init__(self) -> None:
        check_positive(
            self, "train_freq", "gradient_steps", "batch_size", "buffer_size", "learning_rate", "tau", "hidden"
        )

    def rollout(self, num_envs: int) -> int:
        """Env steps between two trainings."""
        return self.train_freq * num_envs


def check_positive(config: Any, *names: str) -> None:
    """Raises ValueError for the first of these options that is not more than 0."""
    for name in names:
        if not getattr(config, name) > 0:
            raise ValueError(f"`{name}` must be more than 0, got {getattr(config, name)}")


def make_ppo(env: VecEnv, config: PPOConfig, seed: int, **options: Any) -> PPO:
    """PPO with an MLP policy on the CPU, where small networks are fastest.

    Rewards are divided by the running deviation of the discounted return (SB3's `VecNormalize`): PPO clips one norm
    over the gradients of policy and value, and the value's would leave nothing of the policy's.
    """
    return PPO(
        "MlpPolicy",
        VecNormalize(env, norm_obs=False, gamma=config.gamma),
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


def make_sac(env: VecEnv, config: SACConfig, seed: int, *, source: PreferenceReward, **options: Any) -> SAC:
    """SAC with an MLP policy on the CPU; `source` is the environment whose reward its batches are labelled with."""
    return SAC(
        "MlpPolicy",
        env,
        train_freq=config.train_freq,
        gradient_steps=config.gradient_steps,
        batch_size=config.batch_size,
        buffer_size=config.buffer_size,
        learning_rate=config.learning_rate,
        gamma=config.gamma,
        tau=config.tau,
        learning_starts=0,  # the loop explores before the agent begins
        policy_kwargs={"net_arch": [config.hidden, config.hidden]},
        replay_buffer_class=RelabellingReplayBuffer,
        replay_buffer_kwargs={"source": source},
        seed=seed,
        device="cpu",
        **options,
    )
