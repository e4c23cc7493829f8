"""The plan of a run: budgets of labels and steps, and where in training the labels are asked for."""

from __future__ import annotations

from dataclasses import dataclass

from prefgym.schedules import schedules


@dataclass(frozen=True)
class LoopConfig:
    """How many labels and steps, and when.

    Attributes:
        labels: comparisons to ask for, in all.
        steps: env steps to take, in all, random exploration included; only whole rollouts are taken, never more.
        sessions: in how many portions the labels are asked for.
        up_front: share of the labels asked for after the exploration, before any training.
        schedule: how the other labels spread over the sessions: constant, decaying or front-loaded.
        until: share of the training after which no more labels are asked for.
        explore_steps: env steps of random actions at the start, which the first queries are cut from.
        segment_length: env steps in a segment; 50 are a second.
        candidates: segments that a strategy chooses from, for each query.
        window: steps of each environment, the last ones, that segments are cut from.
        reference: steps of each environment, the last ones, on which the reward is given mean 0 and deviation 1.
        steps_per_label: env steps that training may go on for each answer that people give, so that it waits for them
            instead of over-optimising a reward that nobody corrects; 0 is `steps` / `labels`. The other options about
            when to ask (sessions, up-front, schedule, until) are for synthetic teachers: people are asked all the time.
    """

    labels: int = 900
    steps: int = 1_800_000
    sessions: int = 40
    up_front: float = 0.1
    schedule: str = "front-loaded"
    until: float = 0.8
    explore_steps: int = 8_192
    segment_length: int = 50
    candidates: int = 8
    window: int = 200
    reference: int = 200
    steps_per_label: int = 0

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be at least {least}, got {getattr(self, name)}")
        for name, share in {"up_front": self.up_front, "until": self.until}.items():
            if not 0 <= share <= 1:
                raise ValueError(f"`{name}` must be a share in [0, 1], got {share}")
        if self.window < self.segment_length:
            raise ValueError(f"`window` must be at least `segment_length`, {self.segment_length}, got {self.window}")
        if 2 * self.segment_length * self.labels > self.steps:
            raise ValueError(
                f"`labels` must be at most {self.steps // (2 * self.segment_length)}, got {self.labels}: each shows "
                f"two segments of {self.segment_length} steps, and there are {self.steps} `steps`"
            )
        _ = schedules[self.schedule]

    @property
    def allowance(self) -> int:
        """Env steps of training for each answer of people."""
        return self.steps_per_label or max(1, self.steps // max(1, self.labels))


_LEAST = {"labels": 0, "steps": 1, "sessions": 1, "explore_steps": 0, "segment_length": 1, "candidates": 2, "window": 1}
_LEAST |= {"reference": 1, "steps_per_label": 0}


@dataclass(frozen=True)
class Stop:
    """A place in training where a session is held: after so many rollouts, so many labels are due in all."""

    rollouts: int
    labels: int


def plan(config: LoopConfig, rollout: int, num_envs: int, *, at_once: bool = False) -> list[Stop]:
    """All sessions of a run, in order: the first before any training, the last at its end.

    After the labels have ended sessions go on at the same pace, to report, and to use answers that come late.

    Args:
        config: the budgets.
        rollout: env steps of one rollout.
        num_envs: environments, N.
        at_once: hold a session after every rollout, at which any number of the labels may be asked for: for people.

    Raises:
        ValueError: the steps do not suffice.
    """
    explored = config.explore_steps // num_envs * num_envs
    least = config.segment_length * num_envs
    if explored < least:
        raise ValueError(
            f"`explore_steps` must be at least {least}, a segment of {config.segment_length} steps in each of "
            f"{num_envs} environments, got {config.explore_steps}"
        )
    rollouts = (config.steps - explored) // rollout
    if rollouts < 1:
        raise ValueError(
            f"`steps` must be at least {explored + rollout}, {explored} of exploration and a rollout of {rollout}, got "
            f"{config.steps}"
        )
    if at_once:
        return [Stop(number, config.labels) for number in range(rollouts + 1)]
    return _stops(config, rollout, rollouts)


def _stops(config: LoopConfig, rollout: int, rollouts: int) -> list[Stop]:
    due, spacing = schedules[config.schedule], rollouts * config.until / config.sessions
    stops = {}
    for session in range(config.sessions + 1):
        share = config.up_front + (1 - config.up_front) * due(
            session / config.sessions, rollouts * config.until * rollout
        )
        # What is asked for after the last rollout teaches nobody.
        stops[min(round(spacing * session), rollouts - 1)] = round(config.labels * share)
    pace, place = max(spacing, rollouts / config.sessions / 2), spacing * config.sessions
    while (place := place + pace) < rollouts - pace / 2:
        stops[min(round(place), rollouts - 1)] = config.labels
    return [Stop(*stop) for stop in (stops | {rollouts: config.labels}).items()]
