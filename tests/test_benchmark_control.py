"""A robot's learned reward, optimised ever harder: distances by hand, and where optimisation begins."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from prefgym.agents.control import PPOConfig, make_ppo
from prefgym.agents.vec_env import VectorAdapter
from prefgym.benchmark import control_optimising, making, optimising
from prefgym.benchmark.cells import Cell
from prefgym.benchmark.control_optimising import STAGE, HalfTrained, divergence, play
from prefgym.benchmark.methods import methods
from prefgym.benchmark.pools import STAGES, PoolSpec, load_pool
from prefgym.benchmark.settings import OnlineSettings, Settings
from prefgym.benchmark.tasks import tasks
from prefgym.benchmark.tracks import overoptimisation
from prefgym.envs.stock import make_vector
from prefgym.rewards.ensemble import RewardEnsemble

TASK = tasks["cheetah-stand"]
ENVS = 16
SPEC = PoolSpec(steps=4 * 64 * ENVS, envs=ENVS, candidates=30, queries=2, snapshots=5)
BEST_OF = (1, 2, 4)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache with a pool of so few steps that its expert is none."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("PREFGYM_CACHE", str(folder))
        for name, value in {"EPISODES": 4, "RECORDED": 4, "WINDOW": 100}.items():
            patch.setattr(making, name, value)
        pool = load_pool(TASK, SPEC)
        yield folder, pool


@pytest.fixture
def small(cache, monkeypatch):
    monkeypatch.setenv("PREFGYM_CACHE", str(cache[0]))
    for module in (optimising, control_optimising):
        monkeypatch.setattr(module, "BEST_OF", BEST_OF)
    monkeypatch.setattr(control_optimising, "EPISODES", 4)
    monkeypatch.setattr(control_optimising, "GROUPS", 3)
    return cache[1]


@pytest.fixture(scope="module")
def agent():
    adapter = VectorAdapter(make_vector(TASK.env_id, 2), 0)
    yield make_ppo(adapter, PPOConfig(n_steps=16, batch_size=32), 0)
    adapter.close()


def test_the_distance_is_the_divergence_of_gaussians_summed_over_an_episode(agent):
    first = deepcopy(agent.policy)
    with torch.no_grad():
        first.log_std += np.log(2)  # twice the deviation, the same mean: log 2 + 1/8 - 1/2 for each of six actions
    seen = np.random.default_rng(0).normal(size=(5, 3, 26)).astype(np.float32)
    assert divergence(agent.policy, first, seen) == pytest.approx(5 * 6 * (np.log(2) + 1 / 8 - 1 / 2), rel=1e-5)
    assert divergence(agent.policy, agent.policy, seen) == 0


def test_what_is_played_is_the_same_again_and_leaves_chance_alone(agent):
    reward = RewardEnsemble(26, 6)
    torch.manual_seed(3)
    first = play(agent, TASK.env_id, 2, 7, reward)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.rand(1) == drawn
    again = play(agent, TASK.env_id, 2, 7, reward)
    assert first.seen.shape == (200, 2, 26)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert abs(first.gold).max() <= 200


def test_the_beginning_is_the_policy_that_made_the_segments(small):
    begun = HalfTrained.of(TASK, small, SPEC, 0)
    assert len(begun.candidates) == SPEC.candidates
    assert set(begun.candidates.steps) == {small.facts["steps"][STAGES[STAGE]]}
    adapter, agent = begun._agent(RewardEnsemble(26, 6), 0)
    again = making._played(agent, TASK, [SPEC.seed, STAGE, 0])
    made = making._drawn(again, TASK, SPEC.candidates, 0)
    adapter.close()
    np.testing.assert_array_equal(made.observations, begun.candidates.observations)
    np.testing.assert_array_equal(made.actions, begun.candidates.actions)


def test_over_optimisation_is_measured_from_the_half_trained_policy_on(small):
    settings = Settings(pool=SPEC, online=OnlineSettings(labels=(5, 10), steps=4 * 64 * ENVS))
    gold = set()
    for method in ("uniform-single", "pessimistic-ensemble"):
        rows = overoptimisation.run(Cell("overoptimisation", TASK.name, method, "oracle", 0), settings)
        for budget in (5, 10):
            mine = [row for row in rows if row["budget"] == budget]
            best = [row for row in mine if (row["stage"], row["metric"]) == ("best_of_n", "proxy")]
            assert [row["kl"] for row in best] == pytest.approx([0, np.log(2) - 1 / 2, np.log(4) - 3 / 4])
            assert best[0]["value"] == pytest.approx(0)
            assert best[0]["value"] < best[1]["value"] < best[2]["value"]
            kl = [row["kl"] for row in mine if (row["stage"], row["metric"]) == ("ppo", "gold")]
            assert kl[0] == 0
            assert len(kl) == 3  # at the beginning and after every two of the four rollouts
            assert min(kl[1:]) > 0
        gold |= {
            round(row["value"], 9)
            for row in rows
            if (row["stage"], row["metric"], row["kl"]) == ("best_of_n", "gold", 0)
        }
    assert len(gold) == 1  # the same episodes in every cell, so that rewards alone differ


def test_pessimism_takes_the_members_deviation_from_the_reward(small):
    view = HalfTrained.of(TASK, small, SPEC, 0).view
    rewards = [methods[f"{name}-ensemble"]().model(view, 0) for name in ("uniform", "pessimistic")]
    seen, done = view.observations[0], view.actions[0]
    each = rewards[0].predict(seen, done)
    np.testing.assert_allclose(rewards[0](seen, done), each.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(rewards[1](seen, done), each.mean(axis=0) - each.std(axis=0), atol=1e-6)


def test_scores_are_between_random_actions_and_the_expert(small):
    lowest, expert = small.facts["random_return"], small.facts["expert_return"]
    assert small.score(np.array([lowest, expert])).tolist() == [0, 1]
    assert small.score(np.array([(lowest + expert) / 2])).tolist() == pytest.approx([0.5])


def test_a_task_whose_episodes_end_at_different_times_is_refused(agent, monkeypatch):
    def staggered(env_id, count):
        env = make_vector(env_id, count)
        reset = env.reset
        env.reset = lambda *, seed, options: reset(seed=seed, options={"stagger": True})
        return env

    monkeypatch.setattr(control_optimising, "make_vector", staggered)
    with pytest.raises(ValueError, match="must end at once"):
        play(agent, TASK.env_id, 2, 0, RewardEnsemble(26, 6))
