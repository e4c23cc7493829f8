import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import SAC

from prefgym.agents.control import SACConfig, make_sac
from prefgym.agents.relabel import RelabellingReplayBuffer
from prefgym.agents.vec_env import VectorAdapter
from prefgym.recorder import Recorder
from prefgym.vector import PreferenceReward

OBSERVATIONS = gym.spaces.Box(-9, 9, (2,), np.float32)
ACTIONS = gym.spaces.Box(np.array([-2.0], np.float32), np.array([6.0], np.float32))


class Source:
    """Stands for a PreferenceReward: a reward that can change."""

    def __init__(self, reward=None):
        self.reward = reward


def filled(source, count=5):
    buffer = RelabellingReplayBuffer(8, OBSERVATIONS, ACTIONS, n_envs=1, source=source)
    for number in range(count):
        state = np.full((1, 2), number, np.float32)
        buffer.add(state, state + 0.5, np.array([[-0.5]], np.float32), np.array([77.0]), np.array([False]), [{}])
    return buffer


def test_rewards_are_the_present_models_of_what_was_reached_and_done():
    source = Source(lambda observations, actions: 10 * observations[:, 0] + actions[:, 0])
    batch = filled(source).sample(32)
    # The stored action -0.5 lies a quarter of the way from -2 to 6.
    assert torch.equal(batch.rewards, 10 * batch.next_observations[:, :1] + 0.0)
    source.reward = lambda observations, actions: np.full(len(observations), -3.0)
    assert torch.equal(filled(source).sample(4).rewards, torch.full((4, 1), -3.0))


def test_without_a_model_rewards_stay_as_they_were():
    assert set(filled(Source()).sample(16).rewards.flatten().tolist()) == {77.0}


def test_needs_a_source():
    with pytest.raises(ValueError, match="`source` must be the PreferenceReward"):
        RelabellingReplayBuffer(8, OBSERVATIONS, ACTIONS)


def test_refuses_discrete_actions():
    with pytest.raises(ValueError, match="actions must be a Box"):
        RelabellingReplayBuffer(8, OBSERVATIONS, gym.spaces.Discrete(3), source=Source())


@pytest.mark.parametrize("count", [5, 11])
def test_state_round_trip(count):
    original = filled(Source(), count)
    copy = RelabellingReplayBuffer(8, OBSERVATIONS, ACTIONS, n_envs=1, source=Source())
    copy.set_state(original.get_state())
    assert (copy.pos, copy.full) == (original.pos, original.full)
    assert np.array_equal(copy.next_observations, original.next_observations)
    assert np.array_equal(copy.rewards, original.rewards)


def test_sac_learns_from_relabelled_batches():
    env = PreferenceReward(gym.make_vec("prefgym/Backflip-v0", num_envs=4), recorder=Recorder(20))
    seen = []

    def reward(observations, actions):
        seen.append(len(observations))
        return np.zeros(len(observations))

    env.reward = reward
    config = SACConfig(train_freq=4, gradient_steps=3, batch_size=24, buffer_size=200)
    agent = make_sac(VectorAdapter(env), config, seed=0, source=env)
    assert isinstance(agent, SAC)
    agent.learn(2 * config.rollout(4))
    assert seen == [4] * 4 + [24] * 3 + [4] * 4 + [24] * 3
