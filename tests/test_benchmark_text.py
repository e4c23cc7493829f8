"""The benchmark on text: what is compared, methods on language models, over-optimisation; without pretraining."""

from dataclasses import replace

import numpy as np
import pytest

from prefgym.agents.text_policy import STORY, load_policy
from prefgym.benchmark import optimising, text_making, text_models, text_optimising
from prefgym.benchmark.cells import Cell
from prefgym.benchmark.methods import methods
from prefgym.benchmark.pools import STAGES, Pool, PoolSpec, pool_path, read_pool, write_pool
from prefgym.benchmark.settings import OnlineSettings, Settings
from prefgym.benchmark.suites import SUITES, able, narrowed, suite_of
from prefgym.benchmark.tasks import tasks
from prefgym.benchmark.teachers import teachers
from prefgym.benchmark.text_making import Said, Writer, make_text_pool
from prefgym.benchmark.text_models import weights_of
from prefgym.benchmark.tracks import overoptimisation
from prefgym.benchmark.tracks.offline import Asking, run_on, standard_of, view_of
from prefgym.envs.text_tasks import text_tasks
from prefgym.recorder import FIELDS, Pieces

BUDGETS = (8, 16)
TEXT = [name for name in methods if "text" in methods[name]().kinds and "offline" in methods[name]().tracks]


def pieces(policy, told, steps, groups, together, first):
    """Demonstrations, each also under the prompts of others: about what was asked or not, and glad or sad."""
    rng = np.random.default_rng(first)
    shown = [told.demonstrations[number] for number in rng.permutation(len(told.demonstrations))[: groups * together]]
    said = []
    for number, one in enumerate(shown):
        group, prompt = first + number // together, shown[number - number % together].prompt
        tokens = [*policy.codec.prompts([prompt], 12)[0], *policy.codec.prompts([one.response], 29)[0]]
        start = len(policy.codec.prompts([prompt], 12)[0])
        said.append(Said(group, prompt, tuple(map(int, tokens)), start))
    return Writer(policy, told, steps, 0).pieces(said)


def joined(parts):
    named = {name: np.concatenate([getattr(part, name) for part in parts]) for name in (*FIELDS, "steps", "groups")}
    return Pieces(**named)


@pytest.fixture(scope="module")
def told():
    return text_tasks["story"](0)


@pytest.fixture(scope="module")
def pool(told):
    policy = load_policy(STORY, seed=0)
    stages = range(len(STAGES))
    candidates = joined([pieces(policy, told, 100 * stage, 8, 4, 100 * stage) for stage in stages])
    held_out = joined([pieces(policy, told, 100 * stage, 10, 2, 1000 + 100 * stage) for stage in stages])
    return Pool(candidates, held_out, {"random_return": 0.0, "expert_return": 1.0}, "", weights_of(policy))


@pytest.fixture
def small(monkeypatch):
    """Short fits, few prompts, and little PPO."""
    monkeypatch.setattr(text_models, "REWARD", replace(text_models.REWARD, epochs=1.0))
    for module in (optimising, text_optimising):
        monkeypatch.setattr(module, "BEST_OF", (1, 2, 4))
    monkeypatch.setattr(text_optimising, "PROMPTS", 6)
    for module in (text_optimising, text_making):
        monkeypatch.setattr(module, "ROWS", 8)
        monkeypatch.setattr(module, "PPO_CONFIG", replace(text_making.PPO_CONFIG, batch_size=8))


def oracle(pool):
    return teachers["oracle"](standard_of(pool, ""), 0)


class Watched(Asking):
    """Sees to it that only responses to one prompt are compared."""

    def __call__(self, pairs):
        first, second = self.pieces.groups[pairs].T
        assert (first == second).all()
        return super().__call__(pairs)


@pytest.mark.parametrize("name", TEXT)
def test_methods_keep_the_contract_and_compare_responses_to_one_prompt(name, pool, small):
    method, ask = methods[name](), Watched(pool.candidates, oracle(pool))
    scorers = method.fit(view_of(pool, informed=method.informed), ask, BUDGETS, 0)
    for budget in BUDGETS:
        ask.limit = budget
        scorer = next(scorers)
    assert ask.asked == (0 if method.informed else BUDGETS[-1])
    scores = scorer.returns(pool.held_out.observations, pool.held_out.actions)
    assert scores.shape[1:] == (len(pool.held_out),)
    assert np.isfinite(scores).all()
    rewards = scorer.rewards(pool.held_out.observations[:, 0], pool.held_out.actions[:, 0])
    assert rewards.shape == (len(pool.held_out),)
    assert list(scorers) == []


def test_the_truth_beats_what_is_learned_and_that_beats_the_flipped(pool):
    found = {}
    for name in ("true", "uniform-ensemble", "flipped"):
        rows = run_on(methods[name](), pool, oracle(pool), (100,), 0)
        found[name] = {(row["metric"], row["stage"]): row["value"] for row in rows}["accuracy", "all"]
    assert found["true"] == 1.0
    assert found["uniform-ensemble"] > 0.6 > 0.5 > found["flipped"]


def test_a_pool_keeps_its_groups_and_its_policy(pool, tmp_path):
    write_pool(tmp_path / "pool.npz", pool)
    again = read_pool(tmp_path / "pool.npz")
    assert again.checksum
    np.testing.assert_array_equal(again.candidates.groups, pool.candidates.groups)
    assert {name: array.tobytes() for name, array in again.policy.items()} == {
        name: array.tobytes() for name, array in pool.policy.items()
    }


def test_over_optimisation_is_measured_from_the_fine_tuned_policy_on(pool, small, tmp_path, monkeypatch):
    monkeypatch.setenv("PREFGYM_CACHE", str(tmp_path))
    settings = Settings(online=OnlineSettings(labels=(2, 4), steps=2 * 8 * 30))
    write_pool(pool_path(tasks["story"], settings.pool), pool)
    rows = overoptimisation.run(Cell("overoptimisation", "story", "uniform-single", "oracle", 0), settings)
    assert {row["budget"] for row in rows} == {10, 20}  # five times as many as of control
    for budget in (10, 20):
        mine = [row for row in rows if row["budget"] == budget]
        best = [row for row in mine if (row["stage"], row["metric"]) == ("best_of_n", "proxy")]
        assert [row["kl"] for row in best] == pytest.approx([0, np.log(2) - 1 / 2, np.log(4) - 3 / 4])
        assert best[0]["value"] < best[1]["value"] < best[2]["value"]
        ppo = [row for row in mine if row["stage"] == "ppo"]
        assert len(ppo) == 2 * 2  # rollouts, gold and proxy
        assert ppo[0]["kl"] == pytest.approx(0, abs=1e-5)
    gold = {row["value"] for row in rows if (row["stage"], row["metric"], row["kl"]) == ("best_of_n", "gold", 0)}
    assert len(gold) == 1  # the same answers in every cell, so that rewards alone differ


def test_a_text_pool_is_made_of_what_a_model_says_as_it_learns(small, told, monkeypatch):
    few = replace(told, demonstrations=told.demonstrations[:32])
    monkeypatch.setattr(text_making, "text_tasks", {"story": lambda seed: few})
    monkeypatch.setattr(text_making, "PRETRAINING_STEPS", 3)
    spec, task = PoolSpec(steps=1, candidates=2, queries=2), tasks["story"]
    made = make_text_pool(task, spec)
    assert len(made.candidates) == 4 * task.scale * 2
    groups = made.candidates.groups.reshape(-1)
    assert len(set(groups)) == 4 * -(-task.scale * 2 // 4)
    first, second = made.pairs.T
    assert (made.held_out.groups[first] == made.held_out.groups[second]).all()
    assert sorted(set(made.candidates.steps.tolist())) == [0, 240, 480]
    assert set(made.policy) == set(weights_of(load_policy(STORY)))


# Suites.


def test_a_method_is_run_where_it_can_be():
    assert able("offline", "story", "dpo")
    assert not able("offline", "hop", "dpo")
    assert not able("offline", "story", "uniform-crops")
    assert not able("online", "story", "uniform-ensemble")
    assert able("overoptimisation", "hop", "uniform-ensemble")
    assert not able("overoptimisation", "hop", "linear")
    assert not able("overoptimisation", "story", "true")
    for suite in SUITES.values():
        assert all(able(cell.track, cell.task, cell.method) for cell in suite.cells)
    both = narrowed(suite_of("text"), tasks=["story", "hop"], methods=["dpo", "ranked-ensemble"], seeds=1)
    assert {(cell.task, cell.method) for cell in both.cells} == {("story", "dpo"), ("hop", "ranked-ensemble")}
    with pytest.raises(ValueError, match="nothing of 'text' is left: the methods, tasks and tracks do not go together"):
        narrowed(suite_of("text"), tasks=["hop"], methods=["dpo"])
