"""The loop: collect, choose queries, ask, fit, go on.

One session of it: a few of the segments that the policy has just shown become queries, a teacher answers them, the
reward model is fitted to all answers so far, and the policy goes on learning from the reward that came out. Nobody
waits for anybody: a person's answers are used by the first session after they were given.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from prefgym.comparisons import Comparison, Query
from prefgym.feedback import Feedback, stacked
from prefgym.preferences import preference_probability
from prefgym.queries import Candidates, Code, QueryStrategy
from prefgym.recorder import Pieces
from prefgym.schedules import schedules
from prefgym.segments import Segment
from prefgym.store import KeyTakenError, Store
from prefgym.teachers import Teacher
from prefgym.vector import PreferenceReward

logger = logging.getLogger(__name__)


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
    """

    labels: int = 900
    steps: int = 1_000_000
    sessions: int = 24
    up_front: float = 0.1
    schedule: str = "constant"
    until: float = 0.8
    explore_steps: int = 16_384
    segment_length: int = 50
    candidates: int = 8
    window: int = 200
    reference: int = 200

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be at least {least}, got {getattr(self, name)}")
        for name in ("up_front", "until"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be a share in [0, 1], got {getattr(self, name)}")
        if self.window < self.segment_length:
            raise ValueError(f"`window` must be at least `segment_length`, {self.segment_length}, got {self.window}")
        if 2 * self.segment_length * self.labels > self.steps:
            raise ValueError(
                f"`labels` must be at most {self.steps // (2 * self.segment_length)}, got {self.labels}: each shows "
                f"two segments of {self.segment_length} steps, and there are {self.steps} `steps`"
            )
        _ = schedules[self.schedule]


_LEAST = {"labels": 0, "steps": 1, "sessions": 1, "explore_steps": 0, "segment_length": 1, "candidates": 2, "window": 1}
_LEAST |= {"reference": 1}


@dataclass(frozen=True)
class Stop:
    """A place in training where a session is held: after so many rollouts, so many labels are due in all."""

    rollouts: int
    labels: int


def plan(config: LoopConfig, rollout: int, num_envs: int) -> list[Stop]:
    """All sessions of a run, in order: the first before any training, the last at its end.

    After the labels have ended sessions go on at the same pace, to report, and to use answers that come late.

    Args:
        config: the budgets.
        rollout: env steps of one rollout.
        num_envs: environments, N.

    Raises:
        ValueError: the steps do not suffice.
    """
    explored = config.explore_steps // num_envs * num_envs
    least = config.segment_length * num_envs
    if config.labels and explored < least:
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
    last = config.sessions + 1
    while spacing and round(spacing * last) < rollouts:
        stops[round(spacing * last)] = config.labels
        last += 1
    return [Stop(*stop) for stop in (stops | {rollouts: config.labels}).items()]


@dataclass(frozen=True)
class Report:
    """What a session came to.

    Attributes:
        session: its number, from 0.
        steps: env steps taken so far, exploration included.
        labels: comparisons asked for so far.
        fit_seconds: taken by this session.
        fit: the reward model's report of its last fit, by name; empty before the first.
        new_accuracy: of the predictions made before asking, on this session's answers; nan without any.
        reward_correlation: Pearson's, between the learned and the true return of this session's candidates.
    """

    session: int
    steps: int
    labels: int
    fit_seconds: float
    fit: dict[str, float]
    new_accuracy: float
    reward_correlation: float


class Agent(Protocol):
    """What learns from the reward: any algorithm of stable-baselines3."""

    num_timesteps: int

    def learn(self, total_timesteps: int, *, reset_num_timesteps: bool = ...) -> Any:
        """Go on learning for so many env steps."""
        ...


class RewardModel(Protocol):
    """What the loop asks of a reward model; see `prefgym.rewards.ensemble.RewardEnsemble`."""

    def __call__(self, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Rewards [N]."""
        ...

    def returns(self, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Returns [M, C] of each member for segments [C, T, O] and [C, T, A], on the scale it was fitted on."""
        ...

    def fit(self, first: tuple, second: tuple, targets: np.ndarray) -> Any:
        """Fits, and returns a dataclass that reports on it."""
        ...

    def normalise(self, observations: np.ndarray, actions: np.ndarray) -> None:
        """Gives the rewards mean 0 and deviation 1 on a reference."""
        ...


class PreferenceLoop:
    """Trains an agent on a reward that is learned from comparisons, while it learns.

    Args:
        agent: any algorithm of stable-baselines3, made on `env` through `prefgym.agents.vec_env.VectorAdapter`.
        env: with a recorder.
        model: the reward model.
        teacher: who answers.
        strategy: chooses what is asked.
        store: keeps queries and answers. Answers that are in it already are used, and not counted as asked for.
        config: see `LoopConfig`.
        rollout: env steps that one call of the agent's `learn` takes: for PPO `n_steps` times `num_envs`.
        seed: of everything random in the loop itself.
        name: of the strategy, kept with the queries.
        fitted: whether the model was fitted before, so that it is used from the start.
        on_rollout: called after every rollout; what it raises leaves a loop that `run` goes on with.
        on_session: called with the report of every session.
    """

    def __init__(
        self,
        agent: Agent,
        env: PreferenceReward,
        model: RewardModel,
        teacher: Teacher,
        strategy: QueryStrategy,
        store: Store,
        config: LoopConfig | None = None,
        *,
        rollout: int,
        seed: int = 0,
        name: str = "",
        fitted: bool = False,
        on_rollout: Callable[[], None] = lambda: None,
        on_session: Callable[[Report], None] = lambda report: None,
    ) -> None:
        if env.recorder is None:
            raise ValueError("`env` must have a recorder: PreferenceReward(env, recorder=Recorder(200))")
        self.agent, self.env, self.model, self.teacher, self.strategy = agent, env, model, teacher, strategy
        self.store, self.feedback = store, Feedback(store)
        self.recorder, self.config = env.recorder, config or LoopConfig()
        self.rollout, self.name, self.fitted = rollout, name, fitted
        self.on_rollout, self.on_session = on_rollout, on_session
        self.plan = plan(self.config, rollout, env.num_envs)
        self.rng = np.random.default_rng(seed)
        self.seed = seed
        self.session = self.rollouts = self.asked = self.explored = 0
        self.fit_report: dict[str, float] = {}

    @property
    def steps(self) -> int:
        """Env steps taken so far."""
        return self.explored + self.agent.num_timesteps

    def run(self) -> None:
        """Goes on to the end of the plan, from wherever the loop stands."""
        self.env.reward = self.model if self.fitted else _nothing
        if not self.explored:
            self.explore()
        while self.session < len(self.plan):
            stop = self.plan[self.session]
            while self.rollouts < stop.rollouts:
                self.agent.learn(self.rollout, reset_num_timesteps=False)
                self.rollouts += 1
                self.on_rollout()
            report = self.hold(stop)
            self.session += 1
            self.on_session(report)

    def explore(self) -> None:
        """Act at random, so that there is something to ask about."""
        self.env.reset(seed=self.seed)
        self.env.action_space.seed(self.seed)
        for _ in range(self.config.explore_steps // self.env.num_envs):
            self.env.step(self.env.action_space.sample())
            self.explored += self.env.num_envs

    def hold(self, stop: Stop) -> Report:
        """One session: choose, ask, fit."""
        started = time.perf_counter()
        pieces = self._draw(stop.labels - self.asked)
        answered = self._ask(pieces, stop.labels - self.asked) if stop.labels > self.asked else []
        self.asked = stop.labels
        if self.feedback.update(self.session):
            self._fit()
        seconds = time.perf_counter() - started
        correlation = self._correlation(pieces)
        return Report(self.session, self.steps, self.asked, seconds, self.fit_report, _accuracy(answered), correlation)

    # Choose.

    def _draw(self, labels: int) -> Pieces | None:
        """Candidates for so many labels, no two alike."""
        places = (len(self.recorder) - self.config.segment_length + 1) * self.env.num_envs
        if places < 1:
            return None
        count = min(max(MIN_CANDIDATES, self.config.candidates * labels), places)
        return _distinct(self.recorder.draw(count, self.config.segment_length, self.rng))

    def _choose(self, pieces: Pieces, count: int) -> list[Query]:
        old = self._old_segments() if getattr(self.strategy, "remembers", False) else []
        scores = self._scores(pieces, old)
        pairs = self.strategy.choose(self._candidates(pieces, old, scores), count, self.rng)
        numbers = {int(number) for number in pairs.flat}
        chosen = {n: pieces.segment(n, self._env_id) if n < len(pieces) else old[n - len(pieces)] for n in numbers}
        predictions = self._predictions(scores, pairs)
        return [
            Query(chosen[int(i)], chosen[int(j)], f"{self.session}/{number}", self.name, prediction)
            for number, ((i, j), prediction) in enumerate(zip(pairs, predictions, strict=True))
        ]

    def _scores(self, pieces: Pieces, old: Sequence[Segment]) -> np.ndarray:
        """Returns [M, C] of fresh and old candidates; zeros before the first fit."""
        if not self.fitted:
            return np.zeros((1, len(pieces) + len(old)))
        scores = self.model.returns(pieces.observations, pieces.actions)
        return np.concatenate([scores, self.model.returns(*stacked(old))], axis=1) if old else scores

    def _candidates(self, pieces: Pieces, old: Sequence[Segment], scores: np.ndarray) -> Candidates:
        features = [pieces.observations.mean(axis=1), *(s.observations.mean(axis=0, keepdims=True) for s in old)]
        steps = np.concatenate([pieces.steps, np.array([s.step for s in old], dtype=np.int64)])
        fresh = np.arange(len(steps)) < len(pieces)
        return Candidates(scores, np.concatenate(features), steps, fresh, self._answered(old, len(pieces)))

    def _predictions(self, scores: np.ndarray, pairs: np.ndarray) -> list[float | None]:
        if not self.fitted:
            return [None] * len(pairs)
        probabilities = preference_probability(scores[:, pairs[:, 0]], scores[:, pairs[:, 1]])
        return probabilities.mean(0).clamp(0, 1).tolist()

    def _old_segments(self) -> list[Segment]:
        """The segments asked about so far, each once."""
        asked = [
            *(said.query for said in self.feedback.comparisons),
            *(query for _, query in self.store.open_queries()),
        ]
        return list({segment.digest: segment for query in asked for segment in (query.first, query.second)}.values())

    def _answered(self, old: Sequence[Segment], offset: int) -> np.ndarray:
        """Earlier queries among the candidates [K, 3], as `Candidates` wants them."""
        if not old:
            return np.zeros((0, 3), dtype=np.int64)
        place = {segment.digest: offset + number for number, segment in enumerate(old)}
        told = [(said.query, Code.of(said.answer)) for said in self.feedback.comparisons]
        told += [(query, Code.OPEN) for _, query in self.store.open_queries()]
        return np.array([(place[q.first.digest], place[q.second.digest], code) for q, code in told], dtype=np.int64)

    # Ask.

    def _ask(self, pieces: Pieces | None, count: int) -> list[Comparison]:
        """Puts queries to the teacher and stores what it answers at once; returns the answers of this session."""
        if pieces is None:
            raise ValueError(f"`explore_steps` must give segments to ask about, got {self.config.explore_steps}")
        queries = self._stored(self._choose(pieces, count))
        known = self.store.answers_of(query.key for query in queries)
        self.teacher.submit([query for query in queries if query.key not in known])
        self.store.record(self.teacher.collect())
        return list(self.store.answers_of(query.key for query in queries).values())

    def _stored(self, queries: list[Query]) -> list[Query]:
        """The queries as they are in the store: a resumed run's first attempt at this session stands."""
        try:
            self.store.ask(queries)
            return queries
        except KeyTakenError:
            logger.warning(
                "Session %d was asked before the run was interrupted, about other segments: that stands", self.session
            )
        keys = {query.key for query in queries}
        answered = [said.query for said in self.store.answers_of(keys).values()]
        return answered + [query for _, query in self.store.open_queries() if query.key in keys]

    # Fit.

    def _fit(self) -> None:
        first, second, targets = self.feedback.arrays()
        if not len(targets):
            return
        self.fit_report = asdict(self.model.fit(first, second, targets))
        if len(self.recorder):
            self.model.normalise(*self.recorder.recent(self.config.reference))
        self.fitted = True
        self.env.reward = self.model

    def _correlation(self, pieces: Pieces | None) -> float:
        if pieces is None or not self.fitted:
            return float("nan")
        learned = self.model.returns(pieces.observations, pieces.actions).mean(axis=0)
        true = pieces.rewards.sum(axis=1)
        return float(np.corrcoef(learned, true)[0, 1]) if learned.std() and true.std() else float("nan")

    @property
    def _env_id(self) -> str:
        spec = self.env.spec
        return spec.id if spec else ""

    # State, so that a run can be resumed.

    def get_state(self) -> dict[str, Any]:
        """Where the loop stands; the agent's, the model's and the environment's states are theirs."""
        return {name: getattr(self, name) for name in STATE} | {
            "rng": self.rng.bit_generator.state,
            "feedback": self.feedback.get_state(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go back to a state from `get_state`."""
        for name in STATE:
            setattr(self, name, state[name])
        self.rng.bit_generator.state = state["rng"]
        self.feedback.set_state(state["feedback"])


STATE = ("session", "rollouts", "asked", "explored", "fitted", "fit_report")
MIN_CANDIDATES = 200
"""Candidates drawn for a session of few labels or none: the correlation is taken over them."""


def _nothing(observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """The reward while nothing is known: the true one stays hidden."""
    return np.zeros(len(observations))


def _distinct(pieces: Pieces) -> Pieces:
    """The pieces without those drawn twice, in the order drawn."""
    starts = np.column_stack([pieces.steps, pieces.observations[:, 0]])
    _, first = np.unique(starts, axis=0, return_index=True)
    kept = np.sort(first)
    return Pieces(*(getattr(pieces, field)[kept] for field in Pieces.__slots__))


def _accuracy(answered: Sequence[Comparison]) -> float:
    """Share of the predictions that name the answer, of those that were made for clear answers."""
    told = [(said.query.prediction, said.answer.target) for said in answered]
    right = [(guess > 0.5) == (target == 1) for guess, target in told if guess is not None and target in (0.0, 1.0)]
    return float(np.mean(right)) if right else float("nan")
