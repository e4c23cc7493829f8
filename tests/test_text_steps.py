"""prefgym sft, reward, ppo and dpo: a step each, in a folder of its own, which goes on where it was stopped."""

import csv
import json
import os
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
)

from prefgym.agents.fine_tuning import LossTrainer
from prefgym.agents.reward_heads import load_reward_model, offsets
from prefgym.agents.small_lm import small_lm, story_tokenizer
from prefgym.agents.text_policy import load_policy
from prefgym.envs.story import StoryCorpus
from prefgym.runs import RunError
from prefgym.scripts import main as command
from prefgym.scripts import ppo, reward, sft
from prefgym.scripts.ppo_reward import ModelReward
from prefgym.scripts.step_data import StepData
from prefgym.scripts.text_training import Plain
from prefgym.text import Demonstration, Ranking
from prefgym.text_formats import TextFormatError

SFT = "--epochs 2 --batch-size 8 --learning-rate 3e-3 --save-seconds 0"
PPO = "--rollouts 4 --rows 8 --batch-size 8 --prompt-tokens 12 --response-tokens 8 --reference 8 --gold sentiment"


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    torch.set_num_threads(1)  # as make test does


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Files of demonstrations, of pairs that differ in their last sentence, and of prompts."""
    folder, corpus = tmp_path_factory.mktemp("data"), StoryCorpus(0)
    shown = corpus.demonstrations(96)
    ends = ("He was happy.", "He was sad.")
    pairs = [(prompt, text.split(".")[0] + ". ") for prompt, text in shown]
    return {
        "demonstrations": written(folder / "shown.jsonl", [{"prompt": p, "completion": said} for p, said in shown]),
        "pairs": written(
            folder / "pairs.jsonl", [{"prompt": p, "chosen": t + ends[0], "rejected": t + ends[1]} for p, t in pairs]
        ),
        "prompts": written(folder / "prompts.jsonl", [{"prompt": prompt} for prompt in corpus.prompts(8)]),
    }


@pytest.fixture(scope="module")
def tuned(data, tmp_path_factory):
    """What prefgym sft leaves of the small model."""
    out = tmp_path_factory.mktemp("sft") / "tuned"
    assert command(["sft", "story", data["demonstrations"], "--out", str(out), *SFT.split()]) == 0
    return out


@pytest.fixture(scope="module")
def fitted(data, tuned, tmp_path_factory):
    """What prefgym reward leaves."""
    out = tmp_path_factory.mktemp("reward") / "fitted"
    told = ["--reference", "16", "--response-tokens", "8", "--epochs", "2"]
    assert command(["reward", str(tuned), data["pairs"], "--out", str(out), *told]) == 0
    return out


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Models that are none for these verbs: not causal, without EOS, and with fewer tokens than the tokenizer."""
    folder, tokenizer = tmp_path_factory.mktemp("odd"), story_tokenizer()
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    both_ways = BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), **sizes))
    models = {"both_ways": both_ways, "endless": small_lm(), "narrow": small_lm(vocabulary=len(tokenizer) - 9)}
    for name, model in models.items():
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(folder / "endless")
    (folder / "empty.jsonl").touch()
    return folder


def figures(folder):
    return json.loads((folder / "report.json").read_text())


def weights(folder):
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def same(first, second):
    one, other = weights(first), weights(second)
    return all(torch.equal(one[name], other[name]) for name in one)


# What they leave.


def test_sft_learns_the_demonstrations(tuned):
    assert figures(tuned)["held_out_loss"] < figures(tuned)["initial_loss"] - 3  # nats a token, of 8.5
    assert not (tuned / "checkpoints").exists()
    assert not (tuned / "step.lock").exists()
    assert AutoTokenizer.from_pretrained(tuned).eos_token_id is not None
    assert len(weights(tuned)) > 0


def test_a_reward_model_tells_pairs_apart_and_is_centred_on_the_policy(fitted):
    held = figures(fitted)["held_out"]
    assert held["accuracy"] > 0.9
    assert 0 <= held["calibration_error"] <= 1
    published = AutoModelForSequenceClassification.from_pretrained(fitted)
    assert published.config.num_labels == 1
    bias, scale = offsets(load_reward_model(fitted))
    assert (bias != 0).all()
    assert (scale == 1).all()


def test_dpo_takes_the_very_same_pairs(data, tuned, tmp_path):
    out = tmp_path / "dpo"
    assert command(["dpo", str(tuned), data["pairs"], "--out", str(out), "--epochs", "2"]) == 0
    assert figures(out)["held_out"]["accuracy"] > 0.9
    assert not same(tuned, out)


def test_ppo_moves_the_policy_by_a_learned_reward(data, tuned, fitted, tmp_path):
    out = tmp_path / "ppo"
    told = ["--reward", str(fitted), "--prompts", data["prompts"], "--out", str(out), *PPO.split()]
    assert command(["ppo", str(tuned), *told]) == 0
    with (out / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["rollout"]) for row in rows] == [1, 2, 3, 4]
    assert abs(float(rows[0]["kl"])) < 1e-4  # it is the initial policy that speaks first
    assert float(rows[-1]["kl"]) > 1e-4
    assert not same(tuned, out)


# Going on.


def test_sft_that_was_stopped_goes_on_to_the_same_weights(data, tuned, tmp_path, monkeypatch, capsys):
    out = tmp_path / "stopped"
    told = ["story", data["demonstrations"], "--out", str(out), *SFT.split()]
    compute, calls = LossTrainer.compute_loss, []

    def interrupted(self, *args, **options):
        calls.append(1)
        if len(calls) == 14:
            raise KeyboardInterrupt
        return compute(self, *args, **options)

    kind = next(one for one in LossTrainer.__subclasses__() if one.__module__.endswith(".sft"))
    target = kind if "compute_loss" in vars(kind) else LossTrainer
    compute = target.compute_loss
    with monkeypatch.context() as patch:
        patch.setattr(target, "compute_loss", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sft.main([*told, "--save-steps", "5"])
    assert [path.name for path in (out / "checkpoints").glob("checkpoint-*")]
    capsys.readouterr()
    assert sft.main([*told, "--save-steps", "5"]) == 0
    assert same(tuned, out)
    found, whole = figures(out), figures(tuned)
    assert found.pop("training_loss") == pytest.approx(whole.pop("training_loss"))  # of all steps, not of the last ones
    assert found | {"seconds": 0} == whole | {"seconds": 0}
    assert "missing keys" not in capsys.readouterr().err  # the Trainer's, of the head, which is the embedding


class Terminating:
    """A gold function that has the process terminated when it is called for the n-th time."""

    def __init__(self, calls):
        self.left = calls

    def __call__(self, prompt, response):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return float(len(response))


def test_ppo_that_was_terminated_goes_on_to_the_same_weights(data, tuned, tmp_path, monkeypatch):
    module = tmp_path / "worth.py"
    module.write_text("function = lambda prompt, response: float(len(response))\n")
    monkeypatch.syspath_prepend(tmp_path)
    import worth

    told = [str(tuned), "--reward", "worth:function", "--prompts", data["prompts"], *PPO.split()]
    assert ppo.main([*told, "--out", str(tmp_path / "whole")]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(worth, "function", Terminating(12))  # in the second rollout of 8
        assert ppo.main([*told, "--out", str(tmp_path / "parts")]) == 128 + signal.SIGTERM
    assert not (tmp_path / "parts" / "report.json").exists()
    assert ppo.main([*told, "--out", str(tmp_path / "parts")]) == 0
    assert same(tmp_path / "whole", tmp_path / "parts")
    tables = [_table(tmp_path / name / "metrics.csv") for name in ("whole", "parts")]
    assert tables[0] == tables[1]


def _table(path):
    with path.open() as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


# Mistakes.


def test_a_folder_is_used_once(data, tuned, tmp_path):
    with pytest.raises(RunError, match="has a finished sft: choose another --out"):
        sft.main(["story", data["demonstrations"], "--out", str(tuned)])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="has something else, which is left as it is"):
        sft.main(["story", data["demonstrations"], "--out", str(tmp_path / "mine")])


def test_nobody_goes_on_with_other_data(data, tmp_path, monkeypatch):
    out, told = tmp_path / "out", SFT.split()

    def stopped(model, tokenizer, demonstrations, config, folder):
        (folder / "checkpoint-1").mkdir(parents=True)
        (folder / "checkpoint-1" / "trainer_state.json").write_text("{}")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sft, "sft", stopped)
        with pytest.raises(KeyboardInterrupt):
            sft.main(["story", data["demonstrations"], "--out", str(out), *told])
    other = written(tmp_path / "other.jsonl", [{"prompt": "Tell.", "completion": "He was happy."}] * 20)
    with pytest.raises(RunError, match="was begun with other data: choose another --out"):
        sft.main(["story", other, "--out", str(out), *told])
    with pytest.raises(RunError, match=r"was begun with epochs = 2\.0, not 1\.0"):
        sft.main(["story", data["demonstrations"], "--out", str(out), *told, "--epochs", "1"])


def test_a_mistake_leaves_nothing_behind(data, tuned, tmp_path, capsys):
    out = tmp_path / "out"
    told = [str(tuned), "--reward", "sentiment", "--prompts", data["prompts"], "--out", str(out), *PPO.split()]
    assert command(["ppo", *told, "--batch-size", "5"]) == 2
    assert "`batch_size` must divide" in capsys.readouterr().err
    assert not out.exists()
    assert command(["ppo", *told, "--rollouts", "1"]) == 0  # with other options, since nothing had been done


def test_what_was_stopped_before_a_checkpoint_begins_anew_with_any_options(data, tmp_path, monkeypatch, capsys):
    out, told = tmp_path / "out", ["sft", "story", data["demonstrations"], "--out", str(tmp_path / "out")]
    with monkeypatch.context() as patch:
        patch.setattr(sft, "sft", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        assert command(told) == 130
    assert "The same command begins anew: prefgym sft story" in capsys.readouterr().err
    assert command([*told, "--epochs", "0.1", "--held-out", "0"]) == 0
    assert "Nothing was held out" in capsys.readouterr().out
    assert figures(out)["held_out_loss"] is None  # JSON has no nan


def test_a_damaged_line_is_named(tuned, tmp_path, capsys):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"prompt": "A", "chosen": "b", "rejected": "c"}\n{"prompt": "A", "chosen"\n')
    assert command(["dpo", str(tuned), str(path), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "pairs.jsonl" in said
    assert "line 2" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (["sft", "DIR/mistyped", "DATA"], "it is no folder here"),
        (["reward", "DIR", "PAIRS"], "must have a tokenizer"),
        (["sft", "TUNED", "DIR/empty.jsonl"], "has nothing to learn from"),
        (["sft", "DIR/both_ways", "DATA"], "must be causal: a later token changes an earlier state of Bert"),
        (
            ["dpo", "DIR/both_ways", "PAIRS"],
            "must be causal: a later token changes an earlier state of Bert",
        ),
        (["sft", "DIR/endless", "DATA"], "must have an end-of-sequence token"),
        (["reward", "DIR/endless", "PAIRS"], "must have an end-of-sequence token"),
        (["reward", "DIR/narrow", "PAIRS"], "must be at least the tokenizer's"),
        (["dpo", "DIR/narrow", "PAIRS"], "must be at least the tokenizer's"),
    ],
)
def test_what_cannot_be_had_is_said_in_a_line(arguments, rule, data, tuned, odd, capsys, tmp_path):
    places = {"DATA": data["demonstrations"], "PAIRS": data["pairs"], "TUNED": str(tuned), "DIR": str(odd)}
    told = [re.sub("|".join(places), lambda found: places[found[0]], one) for one in arguments]
    assert command([*told, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert len(said.strip().splitlines()) == 1
    assert rule in said
    assert not (tmp_path / "out").exists()


def test_a_function_that_does_not_exist_is_said_before_anything_takes_time(data, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        ppo.main(["story", "--reward", "no_module:f", "--prompts", data["prompts"], "--out", str(tmp_path / "out")])
    assert "must be a registered name" in capsys.readouterr().err


# What they learn from.


def test_tables_are_read_like_lines(tuned, tmp_path):
    pandas = pytest.importorskip("pandas")
    rows = [
        {"prompt": "Tell,\nplease.", "completion": "Ann was happy."},
        {"prompt": "Go on.", "completion": "He went."},
    ]
    frame = pandas.DataFrame(rows)
    frame.to_csv(tmp_path / "shown.csv", index=False)
    frame.to_parquet(tmp_path / "shown.parquet")
    written(tmp_path / "shown.jsonl", rows)
    read = [
        StepData(load_policy(tuned)).demonstrations(tmp_path / f"shown.{kind}") for kind in ("csv", "parquet", "jsonl")
    ]
    assert read[0] == read[1] == read[2] == [Demonstration(*row.values()) for row in rows]


def test_a_short_record_of_a_table_is_named_by_its_line(tuned, tmp_path):
    path = tmp_path / "shown.csv"
    path.write_text('prompt,completion\n"Tell,\nplease.",Ann was happy.\nGo on.\n')
    with pytest.raises(TextFormatError, match=r"shown\.csv, line 4"):
        StepData(load_policy(tuned)).demonstrations(path)


def test_rankings_of_several_are_taken(tuned, tmp_path):
    path = written(tmp_path / "ranked.jsonl", [{"prompt": "Tell.", "responses": ["a", "b", "c"], "ranks": [1, 0, 2]}])
    assert StepData(load_policy(tuned)).rankings(path) == [Ranking("Tell.", ("a", "b", "c"), (1, 0, 2))]


def test_a_reward_model_with_another_vocabulary_reads_the_text(tuned, fitted, tmp_path):
    policy = load_policy(tuned)
    plain = Plain(policy, ["Tell me about Ann and a pot."], 12)
    own = ModelReward(str(fitted), policy, plain)
    tokenizer = AutoTokenizer.from_pretrained(fitted)
    tokenizer.add_tokens(["<never>"])
    copy = shutil.copytree(fitted, tmp_path / "other")
    tokenizer.save_pretrained(copy)
    with pytest.raises(ValueError, match="must be at least the tokenizer's"):
        ModelReward(str(copy), policy, plain)
    wider = AutoModelForSequenceClassification.from_pretrained(copy)
    wider.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    wider.save_pretrained(copy)
    other = ModelReward(str(copy), policy, plain)
    prompt = policy.codec.prompts(plain.put, 12)[0].tolist()
    said = [*policy.tokenizer("Ann was happy.", add_special_tokens=False)["input_ids"], policy.tokenizer.eos_token_id]
    tokens = np.full((1, 40), 0)
    tokens[0, : len(prompt) + len(said)] = [*prompt, *said]
    seen = {"tokens": tokens, "length": np.array([len(prompt) + len(said)]), "prompt_length": np.array([len(prompt)])}
    seen["waiting"] = np.array([1])
    scores = own(seen, np.zeros(1)), other(seen, np.zeros(1))
    assert (own._same, other._same) == (True, False)
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    assert scores[0] != 0


def test_words_that_only_the_policy_has_are_not_shown_to_the_reward_model(tuned, fitted, tmp_path):
    policy = load_policy(tuned)
    beyond = policy.vocabulary + 3
    policy.model.resize_token_embeddings(beyond + 1, mean_resizing=False)
    reward = ModelReward(str(fitted), policy, Plain(policy, ["Tell me about Ann and a pot."], 12))
    prompt = policy.codec.prompts(["Tell me about Ann and a pot."], 12)[0].tolist()
    happy = policy.tokenizer("Ann was happy.", add_special_tokens=False)["input_ids"]
    rows = [[*prompt, *happy, beyond], [*prompt, beyond, *happy, beyond]]
    tokens = np.array([row + [0] * (40 - len(row)) for row in rows])
    seen = {"tokens": tokens, "length": np.array([*map(len, rows)]), "prompt_length": np.full(2, len(prompt))}
    scores = reward(seen | {"waiting": np.ones(2)}, np.zeros(2))
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def test_help_names_what_is_asked_for(capsys):
    for verb, needed in {"sft": "DATA", "reward": "RANKINGS", "ppo": "--prompts", "dpo": "RANKINGS"}.items():
        with pytest.raises(SystemExit) as ended:
            command([verb, "--help"])
        assert ended.value.code == 0
        said = capsys.readouterr().out
        assert f"usage: prefgym {verb}" in said
        assert needed in said
        assert "(required)" in said


def test_stopped_halfway_reward_is_not_taken_for_a_model(data, tuned, tmp_path, monkeypatch):
    out = tmp_path / "half"
    with monkeypatch.context() as patch:
        patch.setattr(reward, "fit_reward_model", lambda *args, **options: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            reward.main([str(tuned), data["pairs"], "--out", str(out)])
    assert {path.name for path in Path(out).iterdir()} == {"step.json"}
    with pytest.raises(OSError, match="must have a tokenizer that can be read"):
        ModelReward(str(out), load_policy(tuned), Plain(load_policy(tuned), ["Tell."], 12))
