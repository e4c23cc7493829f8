import math
from collections import Counter
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prefgym.agents.control import PPOConfig, make_ppo
from prefgym.agents.vec_env import VectorAdapter
from prefgym.comparisons import Answer, Comparison, Query
from prefgym.envs.backflip import BackflipVectorEnv
from prefgym.episodes import EpisodeLog
from prefgym.loop import LoopConfig, PreferenceLoop
from prefgym.plan import plan
from prefgym.queries import queries
from prefgym.recorder import Recorder
from prefgym.registry import UnknownNameError
from prefgym.rewards.ensemble import EnsembleConfig, RewardEnsemble
from prefgym.segments import Segment
from prefgym.store import Store
from prefgym.teachers import teachers
from prefgym.teachers.synthetic import SyntheticTeacher
from prefgym.vector import PreferenceReward

ENVS, HORIZON = 4, 30


class Walk(VectorEnv):
    """Points on a line, moved by their actions; being far to the right is what is secretly wanted."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(self, num_envs=ENVS):
        self.num_envs = num_envs
        self.single_observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.single_action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed=None, options=None):
        self.places, self.time = np.random.default_rng(seed).normal(size=self.num_envs), 0
        return self.observe(), {}

    def observe(self):
        return np.stack([self.places, np.full(self.num_envs, self.time)], 1).astype(np.float32)

    def step(self, actions):
        self.places = self.places + actions[:, 0]
        self.time += 1
        observations, over = self.observe(), self.time >= HORIZON
        rewards, dones, info = self.places.copy(), np.full(self.num_envs, over), {}
        if over:
            final = np.empty(self.num_envs, dtype=object)
            final[:] = list(observations)
            info = {"final_obs": final, "final_info": {"score": rewards}}
            observations, _ = self.reset(seed=self.time)
        return observations, rewards, np.zeros(self.num_envs, bool), dones, info


class Walker:
    """An agent that acts at random, counts its steps and keeps the rewards it is given."""

    def __init__(self, env):
        self.env, self.num_timesteps, self.rewards = env, 0, []
        self.calls = []

    def learn(self, total_timesteps, *, reset_num_timesteps=True):
        self.calls.append((total_timesteps, reset_num_timesteps))
        if not self.num_timesteps:
            self.env.reset(seed=1)
            self.env.action_space.seed(1)
        for _ in range(total_timesteps // self.env.num_envs):
            self.rewards.extend(self.env.step(self.env.action_space.sample())[1])
            self.num_timesteps += self.env.num_envs


class Model:
    """A reward model that says what it is told, and remembers what it was fitted to."""

    def __init__(self):
        self.fits, self.references = [], []

    def __call__(self, observations, actions):
        return np.ones(len(observations))

    def returns(self, observations, actions):
        return np.stack([observations[..., 0].sum(-1), observations[..., 0].sum(-1) / 2])

    def fit(self, first, second, targets):
        self.fits.append((first, second, targets))
        return FIT

    def normalise(self, observations, actions):
        self.references.append(observations)


class Absent:
    """A teacher who never answers by itself: a person, who answers through the store."""

    def __init__(self):
        self.submitted = []

    def submit(self, queries):
        self.submitted.extend(queries)

    def collect(self):
        return []


@dataclass(frozen=True)
class Fit:
    training_loss: float = 0.1


FIT = Fit()
SMALL = LoopConfig(labels=10, steps=400, sessions=4, explore_steps=80, segment_length=5, window=40, schedule="constant")


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "feedback.db") as opened:
        yield opened


def make_loop(store, config=SMALL, teacher=None, query="uniform", **options):
    env = PreferenceReward(Walk(), recorder=Recorder(config.window))
    parts = (Walker(env), env, Model(), teacher or SyntheticTeacher(), queries[query](), store, config)
    return PreferenceLoop(*parts, rollout=40, name=query, **options)


# The plan.


def test_plan_by_hand():
    config = LoopConfig(
        labels=100,
        steps=1100,
        sessions=4,
        up_front=0.2,
        schedule="constant",
        until=0.8,
        explore_steps=100,
        segment_length=5,
    )
    stops = [(stop.rollouts, stop.labels) for stop in plan(config, rollout=100, num_envs=4)]
    assert stops == [(0, 20), (2, 40), (4, 60), (6, 80), (8, 100), (10, 100)]


@settings(max_examples=200, deadline=None, derandomize=True)
@example(labels=10, steps=1000, sessions=4, up_front=0.1, until=0.0, explore=100, rollout=50, schedule="decaying")
@example(labels=10, steps=1000, sessions=4, up_front=0.1, until=1e-300, explore=100, rollout=1, schedule="constant")
@given(
    labels=st.integers(0, 200),
    steps=st.integers(1, 5000),
    sessions=st.integers(1, 40),
    up_front=st.floats(0, 1),
    until=st.floats(0, 1),
    explore=st.integers(0, 500),
    rollout=st.integers(1, 300),
    schedule=st.sampled_from(["constant", "decaying", "front-loaded"]),
)
def test_plans_spend_all_labels_before_the_last_rollout_and_never_too_many_steps(
    labels, steps, sessions, up_front, until, explore, rollout, schedule
):
    try:
        config = LoopConfig(labels, steps, sessions, up_front, schedule, until, explore, segment_length=5)
        stops = plan(config, rollout, num_envs=4)
    except ValueError:
        return
    explored = explore // 4 * 4
    assert [stop.rollouts for stop in stops] == sorted({stop.rollouts for stop in stops})
    assert [stop.labels for stop in stops] == sorted(stop.labels for stop in stops)
    assert stops[0].rollouts == 0
    assert explored + stops[-1].rollouts * rollout <= steps < explored + (stops[-1].rollouts + 1) * rollout
    assert stops[-2].labels == stops[-1].labels == labels


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": -1}, "`labels` must be at least 0, got -1"),
        ({"steps": 0}, "`steps` must be at least 1, got 0"),
        ({"sessions": 0}, "`sessions` must be at least 1, got 0"),
        ({"up_front": 1.5}, r"`up_front` must be a share in \[0, 1\], got 1.5"),
        ({"until": math.nan}, r"`until` must be a share in \[0, 1\], got nan"),
        ({"window": 20}, "`window` must be at least `segment_length`, 50, got 20"),
        ({"labels": 11, "steps": 1000}, "`labels` must be at most 10, got 11"),
    ],
)
def test_impossible_budgets_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LoopConfig(**options)


def test_unknown_schedules_are_refused():
    with pytest.raises(UnknownNameError, match="Did you mean 'constant'"):
        LoopConfig(schedule="constnt")


def test_exploration_must_hold_a_segment():
    with pytest.raises(ValueError, match=r"`explore_steps` must be at least 20, .* got 19"):
        plan(LoopConfig(labels=1, steps=1000, explore_steps=19, segment_length=5), 10, 4)


def test_steps_must_hold_a_rollout():
    with pytest.raises(ValueError, match=r"`steps` must be at least 140, .* got 139"):
        plan(LoopConfig(labels=1, steps=139, explore_steps=40, segment_length=5), 100, 4)


# The loop.


def test_every_step_and_label_is_counted_and_no_budget_exceeded(store):
    reports = []
    loop = make_loop(store, on_session=reports.append)
    loop.run()
    assert loop.agent.calls == [(40, False)] * 8
    assert loop.steps == 400 == loop.recorder.steps * ENVS
    assert store.counts()["comparisons"] == loop.asked == SMALL.labels
    assert [report.labels for report in reports] == [stop.labels for stop in loop.plan]
    assert reports[-1].steps == 400
    assert [len(targets) for *_, targets in loop.model.fits] == [1, 3, 6, 8, 10]


def test_queries_have_keys_strategies_and_predictions(store):
    loop = make_loop(store)
    loop.run()
    asked = [said.query for _, said in store.comparisons()]
    sessions = Counter(query.key.split("/")[0] for query in asked)
    assert sessions == {"0": 1, "1": 2, "2": 3, "3": 2, "4": 2}
    assert {query.strategy for query in asked} == {"uniform"}
    assert [query.prediction is None for query in asked] == [True] + [False] * 9
    # Members predict the true return and half of it.
    query = asked[-1]
    gap = query.first.observations[:, 0].sum() - query.second.observations[:, 0].sum()
    assert query.prediction == pytest.approx(np.mean([1 / (1 + np.exp(-gap)), 1 / (1 + np.exp(-gap / 2))]), abs=1e-5)


def test_the_fit_gets_the_answers_as_targets(store):
    loop = make_loop(store)
    loop.run()
    (first, actions), (second, _), targets = loop.model.fits[-1]
    assert first.shape == second.shape == (10, 5, 2)
    assert actions.shape == (10, 5, 1)
    assert targets.tolist() == (first[..., 0].sum(1) > second[..., 0].sum(1)).tolist()


def test_the_true_reward_is_hidden_before_the_first_fit(store):
    loop = make_loop(store, teacher=Absent())
    loop.run()
    assert set(loop.agent.rewards) == {0.0}
    assert store.counts()["open"] == 10
    assert not loop.model.fits


def test_after_a_fit_the_agent_gets_the_learned_reward(store):
    loop = make_loop(store)
    loop.run()
    assert set(loop.agent.rewards) == {1.0}


def test_a_persons_late_answers_are_used_by_the_next_session(store):
    def answer(report):
        for number, _ in store.open_queries():
            store.answer(number, Answer.FIRST)

    loop = make_loop(store, teacher=Absent(), on_session=answer)
    loop.run()
    assert [len(targets) for *_, targets in loop.model.fits] == [1, 3, 6, 8, 10]
    assert loop.session == len(loop.plan)


def test_a_changed_mind_replaces_the_answer(store):
    loop = make_loop(store)
    loop.run()
    query = store.comparisons()[0][1].query
    other = Answer.SECOND if store.answers_of([query.key])[query.key].answer == Answer.FIRST else Answer.FIRST
    store.record([Comparison(query, other, "synthetic")])
    assert loop.feedback.update(99)
    assert len(loop.feedback.comparisons) == 10
    assert loop.feedback.comparisons[-1].answer == other


def test_skips_are_labels_but_not_fitted(store):
    loop = make_loop(store, teacher=SyntheticTeacher(skip=math.inf))
    loop.run()
    assert store.counts()["skip"] == loop.asked == 10
    assert not loop.model.fits


def test_accuracy_is_of_predictions_made_before_asking(store):
    reports = []
    make_loop(store, on_session=reports.append).run()
    # The model predicts the true return; the teacher knows it too.
    assert [report.new_accuracy for report in reports[1:5]] == [1.0] * 4
    assert math.isnan(reports[0].new_accuracy)
    assert [report.reward_correlation for report in reports] == pytest.approx([1.0] * 6)


def test_labels_of_another_run_are_fitted_and_not_counted(store, tmp_path):
    make_loop(store).run()
    with Store(tmp_path / "second.db") as second:
        second.copy_from(store)
        loop = make_loop(second, seed=5)
        loop.run()
        assert [len(targets) for *_, targets in loop.model.fits] == [11, 13, 16, 18, 20]
        assert loop.asked == 10


def test_segments_of_another_length_cannot_be_reused(store, tmp_path):
    make_loop(store).run()
    with Store(tmp_path / "second.db") as second:
        second.copy_from(store)
        config = LoopConfig(labels=10, steps=400, sessions=4, explore_steps=80, segment_length=6, window=40)
        with pytest.raises(ValueError, match="equally long, got unnamed T=5 O=2 A=1, unnamed T=6"):
            make_loop(second, config).run()


def test_asking_again_after_an_interruption_keeps_the_first_queries(store, caplog):
    first, _, _ = (segment(number) for number in range(3))
    query = Query(first, segment(9), key="0/0")
    store.record([Comparison(query, Answer.SECOND)])
    loop = make_loop(store)
    loop.run()
    assert "Session 0 had been asked already" in caplog.text
    assert store.counts()["queries"] == store.counts()["comparisons"] == 10
    assert loop.model.fits[0][2].tolist() == [0.0]


def segment(number):
    return Segment(np.full((5, 2), number), np.zeros((5, 1)), np.zeros((5, 0)), np.zeros(5))


@pytest.mark.parametrize("query", queries)
def test_every_strategy_works_in_the_loop(store, query):
    loop = make_loop(store, query=query)
    loop.run()
    assert store.counts()["comparisons"] == 10


def test_ranked_asks_about_old_segments(store):
    make_loop(store, query="ranked").run()
    assert store.counts()["segments"] < 2 * 10


def test_an_interrupted_rollout_is_gone_on_with(store):
    def interrupt():
        if loop.rollouts == 3 and interruptions.pop():
            raise KeyboardInterrupt

    interruptions = [False, True]
    loop = make_loop(store, on_rollout=interrupt)
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    loop.run()
    assert loop.steps == 400
    assert store.counts()["comparisons"] == 10


def test_needs_a_recorder(store):
    env = PreferenceReward(Walk())
    with pytest.raises(ValueError, match="`env` must have a recorder"):
        PreferenceLoop(Walker(env), env, Model(), Absent(), queries["uniform"](), store, SMALL, rollout=40)


# Episodes.


def test_the_episode_log_sums_both_rewards_and_keeps_the_judges_last_word():
    env = EpisodeLog(PreferenceReward(Walk(), lambda observations, actions: np.ones(ENVS)), ["score", "unknown"])
    env.reset(seed=0)
    assert math.isnan(env.drain()["true_return"])
    total = np.zeros(ENVS)
    for _ in range(HORIZON):
        info = env.step(np.zeros((ENVS, 1)))[4]
        total += info["true_reward"]
    means = env.drain()
    assert means["learned_return"] == HORIZON
    assert means["true_return"] == pytest.approx(total.mean())
    assert means["score"] == pytest.approx(total.mean() / HORIZON)
    assert math.isnan(means["unknown"])
    assert math.isnan(env.drain()["score"])


# All of it.


class TurnVectorEnv(BackflipVectorEnv):
    """Wants backward turns, however they end: learned in seconds."""

    def _judge(self, motion):
        return super()._judge(motion) | {"true_reward": -motion.qvel[:, 2]}


def learned_turns(store, backward=True):
    """Revolutions per episode after 40,000 steps and 120 answers of a teacher who wants them, or their opposite."""
    torch.set_num_threads(1)  # the last bits of sums depend on it, and so does what is learned
    env = PreferenceReward(TurnVectorEnv(32), recorder=Recorder(100))
    adapter = VectorAdapter(EpisodeLog(env))
    agent = make_ppo(adapter, PPOConfig(n_steps=32, batch_size=256, n_epochs=6), seed=0)
    # Without optimism: in so short a run, exploring would hide what was learned.
    config = EnsembleConfig(updates=60, weight_decay=0.01, stride=2, optimism=0.0)
    model = RewardEnsemble(env.single_observation_space.shape[0], 3, config, seed=0)
    teacher = teachers["oracle"](seed=0) if backward else Contrary()
    config = LoopConfig(labels=120, steps=40_000, sessions=6, explore_steps=1600, segment_length=25, window=64)
    PreferenceLoop(agent, env, model, teacher, queries["on-policy"](), store, config, rollout=1024).run()
    judge = TurnVectorEnv(8)
    observations, _ = judge.reset(seed=0)
    for _ in range(judge.horizon):
        observations, *_, info = judge.step(agent.predict(observations, deterministic=True)[0])
    return info["final_info"]["revolutions"].mean()


class Contrary:
    """A teacher who says the opposite of the oracle: a learner that turns labels around looks like this."""

    def __init__(self):
        self.oracle = teachers["oracle"](seed=0)
        self.submit = self.oracle.submit

    def collect(self):
        turned = {Answer.FIRST: Answer.SECOND, Answer.SECOND: Answer.FIRST}
        said = self.oracle.collect()
        return [Comparison(one.query, turned.get(one.answer, one.answer)) for one in said]


def test_the_whole_loop_learns_what_the_teacher_wants(store):
    assert learned_turns(store) > 1


def test_and_the_opposite_of_a_teacher_who_wants_the_opposite(store):
    assert learned_turns(store, backward=False) < 0.5
