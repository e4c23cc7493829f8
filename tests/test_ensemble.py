"""The reward model: what it learns, what it is validated on, how it is normalised and kept."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from prefgym.registry import UnknownNameError
from prefgym.rewards.ensemble import EnsembleConfig, RewardEnsemble

WIDTH, LENGTH = 4, 20
SMALL = EnsembleConfig(hidden=16, updates=80, weight_decay=0.01, stride=2)


def comparisons(count, seed=0):
    """Pairs of random segments, and which has the larger first observation: a reward that can be learned."""
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(2, count, LENGTH, WIDTH)).astype(np.float32)
    first += rng.normal(size=(count, 1, WIDTH))  # segments differ more than steps
    actions = np.zeros((count, LENGTH, 1), np.float32)
    targets = (first[..., 0].sum(1) > second[..., 0].sum(1)).astype(float)
    return (first, actions), (second, actions), targets


def held_out_accuracy(model, seed=1):
    first, second, targets = comparisons(500, seed)
    returns = [model.returns(*side).mean(axis=0) for side in (first, second)]
    return np.mean((returns[0] > returns[1]) == (targets == 1))


def test_it_learns_what_the_teacher_prefers_and_the_opposite_from_the_opposite():
    first, second, targets = comparisons(200)
    model, contrary = RewardEnsemble(WIDTH, 1, SMALL), RewardEnsemble(WIDTH, 1, SMALL)
    report = model.fit(first, second, targets)
    contrary.fit(first, second, 1 - targets)
    assert held_out_accuracy(model) > 0.85
    assert held_out_accuracy(contrary) < 0.15
    assert report.training_loss < report.validation_loss < np.log(2)


def test_a_member_is_validated_on_what_it_never_drew_however_many_fits_follow():
    model = RewardEnsemble(WIDTH, 1, SMALL, seed=5)
    early, late = model._bootstrap(40), model._bootstrap(100)
    assert torch.equal(early, late[:, :40])
    assert 0.25 < (late == 0).float().mean() < 0.5  # e^-1 = 0.37 of them


def test_labels_by_coin_leave_the_validation_at_chance():
    first, second, _ = comparisons(200)
    coins = np.random.default_rng(2).integers(0, 2, 200).astype(float)
    report = RewardEnsemble(WIDTH, 1, SMALL).fit(first, second, coins)
    assert 0.4 < report.validation_accuracy < 0.6
    assert report.training_accuracy > report.validation_accuracy


def test_ties_draw_two_segments_together():
    first, second, targets = comparisons(100)
    gaps = []
    for goal in (targets, np.full(100, 0.5)):
        model = RewardEnsemble(WIDTH, 1, SMALL)
        model.fit(first, second, goal)
        gaps.append(np.abs(model.returns(*first) - model.returns(*second)).mean())
    assert gaps[1] < gaps[0] / 3


def test_the_batched_product_is_each_member_by_itself():
    model = RewardEnsemble(WIDTH, 1, SMALL)
    inputs = torch.randn(7, WIDTH, generator=torch.Generator().manual_seed(0))
    together = model.networks(inputs)
    for member in range(SMALL.members):
        hidden = inputs
        for layer in range(2):
            weight, bias = model.networks.weights[layer][member], model.networks.biases[layer][member]
            hidden = torch.relu(hidden @ weight + bias)
        alone = torch.tanh(hidden @ model.networks.weights[2][member] + model.networks.biases[2][member])[:, 0]
        torch.testing.assert_close(together[member], alone)


def test_rewards_have_mean_0_and_deviation_1_on_the_reference():
    model = RewardEnsemble(WIDTH, 1, SMALL)
    reference = np.random.default_rng(0).normal(3.0, 2.0, (400, WIDTH)).astype(np.float32)
    model.normalise(reference, np.zeros((400, 1)))
    rewards = model.predict(reference, np.zeros((400, 1)))
    np.testing.assert_allclose(rewards.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(rewards.std(axis=1), 1, rtol=1e-2)


def test_the_reward_depends_on_its_inputs_alone(tmp_path):
    names = [f"number_{column}" for column in range(WIDTH)]
    config = EnsembleConfig(hidden=16, inputs=(names[2], names[0]))
    model = RewardEnsemble(WIDTH, 1, config, names=names)
    seen, done = np.random.default_rng(0).normal(size=(5, WIDTH)), np.zeros((5, 1))
    other, same = seen.copy(), seen.copy()
    other[:, 2] += 1
    same[:, 1] += 1
    np.testing.assert_array_equal(model(same, done), model(seen, done))
    assert (model(other, done) != model(seen, done)).all()
    model.save(tmp_path / "reward")
    model.load(tmp_path / "reward")
    exchanged = RewardEnsemble(WIDTH, 1, replace(config, inputs=config.inputs[::-1]), names=names)
    with pytest.raises(ValueError, match="of other inputs"):
        exchanged.load(tmp_path / "reward")
    with pytest.raises(UnknownNameError, match="Unknown input 'number_q'"):
        RewardEnsemble(WIDTH, 1, EnsembleConfig(inputs=("number_q",)), names=names)
    with pytest.raises(ValueError, match="`inputs` must be empty where observations have no names"):
        RewardEnsemble(WIDTH, 1, config)


def test_optimism_adds_the_members_deviation():
    plain, bold = (RewardEnsemble(WIDTH, 1, EnsembleConfig(hidden=16, optimism=value)) for value in (0.0, 2.0))
    where = np.ones((3, WIDTH), np.float32), np.zeros((3, 1), np.float32)
    np.testing.assert_allclose(bold(*where) - plain(*where), 2 * plain.predict(*where).std(axis=0), rtol=1e-5)


def test_actions_count_only_if_asked_for():
    observations, actions = np.zeros((5, WIDTH), np.float32), np.arange(5, dtype=np.float32)[:, None]
    blind, seeing = (RewardEnsemble(WIDTH, 1, EnsembleConfig(use_actions=use)) for use in (False, True))
    assert np.ptp(blind(observations, actions)) == 0
    assert np.ptp(seeing(observations, actions)) > 0


def test_what_was_saved_goes_on_as_if_it_had_not_been(tmp_path):
    first, second, targets = comparisons(60)
    config = EnsembleConfig(hidden=16, updates=10, warm=True, adapt=True)
    model = RewardEnsemble(WIDTH, 1, config)
    model.fit(first, second, targets)
    model.save(tmp_path / "model")
    other = RewardEnsemble(WIDTH, 1, config, seed=9)
    other.load(tmp_path / "model")
    assert model.fit(first, second, targets) == other.fit(first, second, targets)
    np.testing.assert_array_equal(model.returns(*first), other.returns(*first))


def test_another_shape_or_version_is_refused(tmp_path):
    RewardEnsemble(WIDTH, 1, SMALL).save(tmp_path / "model")
    with pytest.raises(ValueError, match="another shape"):
        RewardEnsemble(WIDTH + 1, 1, SMALL).load(tmp_path / "model")
    facts = tmp_path / "model.json"
    facts.write_text(facts.read_text().replace('"version": 2', '"version": 99'))
    with pytest.raises(ValueError, match="version 99"):
        RewardEnsemble(WIDTH, 1, SMALL).load(tmp_path / "model")


def test_weight_decay_follows_the_validation_loss():
    model = RewardEnsemble(WIDTH, 1, SMALL)
    for ratio, factor in ((2.0, 1.5), (1.3, 1.0), (1.0, 1 / 1.5), (float("nan"), 1.0)):
        before = model.weight_decay
        model._adapt(ratio)
        assert model.weight_decay == pytest.approx(before * factor)


def test_a_glimpse_is_a_crop_at_every_stride():
    model = RewardEnsemble(1, 1, EnsembleConfig(crop=0.5, stride=3))
    pairs = torch.arange(LENGTH, dtype=torch.float32).expand(1, 2, LENGTH)[..., None]
    for _ in range(50):
        steps = model._glimpse(pairs)[0, 0, :, 0]
        assert 3 <= len(steps) <= 4
        assert (steps.diff() == 3).all()


def test_no_comparisons_and_nan_are_refused():
    first, second, targets = comparisons(10)
    model = RewardEnsemble(WIDTH, 1, SMALL)
    with pytest.raises(ValueError, match="at least 1 comparison"):
        model.fit(tuple(side[:0] for side in first), tuple(side[:0] for side in second), targets[:0])
    first[0][0, 0, 0] = np.nan
    with pytest.raises(FloatingPointError, match="finite"):
        model.fit(first, second, targets)


@pytest.mark.parametrize(
    ("option", "rule"),
    [
        ({"members": 0}, "`members` must be more than 0"),
        ({"noise": 1.5}, r"`noise` must be in \[0, 1\]"),
        ({"optimism": float("nan")}, "`optimism` must be finite"),
        ({"weight_decay": float("nan")}, "`weight_decay`"),
    ],
)
def test_options_out_of_range_are_refused(option, rule):
    with pytest.raises(ValueError, match=rule):
        EnsembleConfig(**option)
