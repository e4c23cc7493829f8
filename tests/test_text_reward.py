"""The text reward model in the places that the loop and the environment have for one."""

import math
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from prefgym.agents.reward_heads import make_reward_model, member_scores, offsets
from prefgym.agents.reward_model import RewardModelConfig
from prefgym.agents.text_reward import TextRewardEnsemble, contests_of
from prefgym.loop import LoopConfig, PreferenceLoop
from prefgym.queries.disagreement import Disagreement
from prefgym.store import Store
from prefgym.teachers.synthetic import SyntheticTeacher
from prefgym.text import PADDING, texts
from prefgym.text_formats import rankings_in
from prefgym.text_recorder import TextRecorder
from prefgym.vector import PreferenceReward

WORDS = ["<pad>", "<bos>", "<eos>", "<unk>", "say", "tell", "good", "one", "two", "three", "four", "five"]
GOOD = 6
SHAPE = {"vocab_size": len(WORDS), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SIZE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
CONFIG = RewardModelConfig(learning_rate=3e-3)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokenizer():
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    named = {name: f"<{name.partition('_')[0]}>" for name in ("pad_token", "bos_token", "eos_token")}
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", **named)


@pytest.fixture
def model(tokenizer):
    torch.manual_seed(0)
    language = LlamaForCausalLM(LlamaConfig(**SHAPE, **SIZE, max_position_embeddings=32))
    return make_reward_model(language, tokenizer, 3)


def padded(*rows, width=8):
    return np.array([[*row] + [PADDING] * (width - len(row)) for row in rows], np.float32)


def comparisons(count, seed=0):
    """First and second responses, of which one says "good", as the loop has them, and which it was."""
    rng = np.random.default_rng(seed)
    rows = [[4, *rng.integers(7, 12, 4).tolist(), 2] for _ in range(2 * count)]
    targets = rng.integers(0, 2, count).astype(np.float32)
    for number, target in enumerate(targets.tolist()):
        rows[2 * number + (target == 0)][rng.integers(1, 5)] = GOOD
    tokens = padded(*rows)[:, None]
    nothing = np.zeros((count, 1, 0), np.float32)
    return (tokens[::2], nothing), (tokens[1::2], nothing), targets


def test_comparisons_that_share_responses_are_one_contest():
    first, second = [(1,), (2,), (5,), (1,)], [(2,), (3,), (6,), (3,)]
    three, two = contests_of(first, second, np.array([1.0, 0.0, 0.5, 1.0]))
    assert (three.rows, two.rows) == (((1,), (2,), (3,)), ((5,), (6,)))
    assert three.pairs == ((0, 1, 1.0), (1, 2, 0.0), (0, 2, 1.0))
    assert two.pairs == ((0, 1, 0.5),)
    # The loss is a mean over contests of the mean over pairs: so weighted, all 4 comparisons count alike.
    assert three.weight / 3 == two.weight / 1
    assert three.weight + two.weight == 2


def test_a_fit_learns_what_the_teacher_likes(model):
    ensemble = TextRewardEnsemble(model, CONFIG)
    report = ensemble.fit(*comparisons(100))
    assert report.training_accuracy > 0.95
    assert report.comparisons == 100
    assert math.isnan(report.validation_accuracy)
    first, second, targets = comparisons(100, seed=1)
    ahead = ensemble.returns(*first) > ensemble.returns(*second)
    assert ahead.shape == (3, 100)
    assert ((ahead == targets).mean(axis=1) > 0.9).all()
    with pytest.raises(ValueError, match="at least 1 comparison, got 0"):
        ensemble.fit(*(part[:0] if isinstance(part, np.ndarray) else part for part in comparisons(1)))


def test_every_fit_starts_anew_unless_it_is_warm(model):
    cold = TextRewardEnsemble(model, CONFIG)
    cold.fit(*comparisons(20, seed=1))
    losses = [cold.fit(*comparisons(20)).training_loss for _ in range(2)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    warm = TextRewardEnsemble(model, CONFIG, warm=True)
    assert warm.fit(*comparisons(20)).training_loss < losses[0] / 2


def test_padding_is_no_token(model):
    ensemble = TextRewardEnsemble(model)
    scores = ensemble.returns(padded((4, 7, 8, 2), (4, GOOD, 2), width=8)[:, None], np.zeros((2, 1, 0)))
    np.testing.assert_allclose(scores, member_scores(model, [(4, 7, 8, 2), (4, GOOD, 2)]), rtol=1e-5, atol=1e-6)
    wider = ensemble.returns(padded((4, 7, 8, 2), (4, GOOD, 2), width=20)[:, None], np.zeros((2, 1, 0)))
    np.testing.assert_allclose(scores, wider, rtol=1e-5, atol=1e-6)


def test_rewards_are_normalised_on_what_is_handed_in_or_on_the_reference(model):
    tokens, actions = comparisons(20)[0][0][:, 0], np.zeros((20, 0))
    now = TextRewardEnsemble(model, optimism=2.0)
    now.normalise(tokens, actions)
    rewards = now.predict(tokens, actions)
    np.testing.assert_allclose(rewards.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(rewards.std(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(now(tokens, actions), rewards.mean(axis=0) + 2 * rewards.std(axis=0), atol=1e-5)
    fixed = TextRewardEnsemble(model, reference=tokens[:5])
    fixed.normalise(tokens, actions)
    np.testing.assert_allclose(fixed.predict(tokens[:5], actions).mean(axis=1), 0, atol=1e-5)
    assert abs(fixed.predict(tokens, actions).mean()) > 1e-3


def test_a_response_is_rewarded_once_when_it_ends(model):
    ensemble = TextRewardEnsemble(model)
    tokens = np.array([[4, 7, 8, 0], [4, GOOD, 2, 0], [0, 0, 0, 0], [4, 7, 8, 9]])  # writes, ended, idles, full
    observations = {"tokens": tokens, "length": np.array([3, 3, 0, 4]), "waiting": np.array([0, 1, 0, 1])}
    observations["waiting"][2] = 1
    rewards = ensemble(observations, np.zeros(4))
    expected = member_scores(model, [(4, GOOD, 2), (4, 7, 8, 9, 2)]).mean(0)  # read at EOS, also where none was said
    np.testing.assert_allclose(rewards, [0, expected[0], 0, expected[1]], rtol=1e-5, atol=1e-6)
    assert not ensemble({name: value[:1] for name, value in observations.items()}, np.zeros(1)).any()


def test_what_is_saved_is_what_is_loaded(model, tokenizer, tmp_path):
    first, second, targets = comparisons(20)
    ensemble = TextRewardEnsemble(model, CONFIG)
    ensemble.fit(first, second, targets)
    ensemble.normalise(first[0][:, 0], first[1][:, 0])
    ensemble.save(tmp_path / "reward")
    torch.manual_seed(1)
    other = make_reward_model(LlamaForCausalLM(LlamaConfig(**SHAPE, **SIZE)), tokenizer, 3)
    again = TextRewardEnsemble(other, CONFIG)
    again.load(tmp_path / "reward")
    np.testing.assert_allclose(again(first[0][:, 0], first[1]), ensemble(first[0][:, 0], first[1]), atol=1e-5)
    smaller = make_reward_model(LlamaForCausalLM(LlamaConfig(**SHAPE, **SIZE)), tokenizer, 2)
    with pytest.raises(ValueError, match="holds a reward model of another shape"):
        TextRewardEnsemble(smaller, CONFIG).load(tmp_path / "reward")


class Typist:
    """An agent that learns nothing and writes at random."""

    def __init__(self, env):
        self.env, self.num_timesteps, self.rewards = env, 0, []
        self.observations = None

    def learn(self, total_timesteps, *, reset_num_timesteps=True):
        for _ in range(total_timesteps // self.env.num_envs):
            _, rewards, ended, _, _ = self.env.step(self.env.action_space.sample())
            self.rewards.append((rewards, ended))
            self.num_timesteps += self.env.num_envs


def test_the_robots_loop_learns_what_is_liked_in_text(model, tokenizer, tmp_path):
    options = {"prompts": ["say one", "tell two"], "tokenizer": tokenizer, "max_prompt_length": 4}
    options |= {"reward": lambda prompt, response: float(response.split().count("good")), "max_response_length": 6}
    env = gym.make_vec("prefgym/TextGeneration-v0", num_envs=8, samples_per_prompt=4, **options)
    recorder = TextRecorder(20, partial(tokenizer.decode, skip_special_tokens=True), samples_per_prompt=4)
    env = PreferenceReward(env, recorder=recorder)
    config = LoopConfig(
        labels=60, steps=8 * 6 * 40, sessions=3, explore_steps=8 * 6 * 10, segment_length=1, reference=20
    )
    agent, reports = Typist(env), []
    with Store(tmp_path / "feedback.db") as store:
        parts = TextRewardEnsemble(model, CONFIG), SyntheticTeacher(), Disagreement(), store, config
        PreferenceLoop(agent, env, *parts, rollout=8 * 6 * 2, on_session=reports.append).run()
        said = [comparison for _, comparison in store.comparisons()]
        rankings = rankings_in(store)
    assert len(said) == reports[-1].labels == 60
    assert all(texts(one.query.first)[0] == texts(one.query.second)[0] for one in said)
    assert {ranking.prompt for ranking in rankings} == {"say one", "tell two"}
    assert reports[-1].reward_correlation > 0.6
    rewards, ended = map(np.stack, zip(*agent.rewards, strict=True))
    assert (rewards[~ended] == 0).all()
    assert rewards[-30:][ended[-30:]].std() > 0.5


def test_every_score_is_read_at_the_end(model):
    ensemble = TextRewardEnsemble(model)
    ended, cut = np.array([[[4, GOOD, 2, -1]]]), np.array([[[4, GOOD, -1, -1]]])
    nothing = np.zeros((1, 1, 0))
    np.testing.assert_array_equal(ensemble.returns(ended, nothing), ensemble.returns(cut, nothing))
    assert ensemble.score([(4, GOOD)]) == ensemble.score([(4, GOOD, 2)])
    ensemble.normalise(cut, nothing)
    bias = offsets(model)[0]
    ensemble.normalise(ended, nothing)
    torch.testing.assert_close(offsets(model)[0], bias)
