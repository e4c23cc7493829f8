"""Two processes train as one does: the same update to 1e-5; and every step leaves one folder under torchrun.

Run by torchrun, this file is what the two processes do; run by pytest, it starts them once, and looks at what they
left.
"""

import csv
import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from accelerate import DistributedType, PartialState
from stable_baselines3.common.logger import Logger
from torch.distributed.tensor import DTensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    Trainer,
)

from prefgym.__main__ import leave
from prefgym.agents import distributed
from prefgym.agents.small_lm import small_lm, story_tokenizer
from prefgym.agents.text_ppo import TextPPOConfig, make_text_ppo
from prefgym.envs.story import StoryCorpus
from prefgym.envs.text import TextGenerationVectorEnv
from prefgym.scripts import dpo, reward, sft
from prefgym.scripts import main as command
from prefgym.scripts.ppo import PPOStepConfig
from prefgym.scripts.ppo_training import PPOTraining
from prefgym.scripts.text_steps import told

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "scale.md").read_text()
ROWS, PROMPT, STEPS, VOCABULARY = 8, 4, 6, 211
SIZE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
TOKENS = {"vocab_size": VOCABULARY, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
CONFIG = TextPPOConfig(
    batch_size=4, n_epochs=2, learning_rate=1e-3, kl_coefficient=0.5, max_grad_norm=0.05, ent_coef=0.01, device="cpu"
)
KINDS = {
    "one step": replace(CONFIG, batch_size=ROWS, n_epochs=1),
    "several": replace(CONFIG, kl_target=0.1, whiten_rewards=True),
    "saving": replace(CONFIG, micro_batch_size=1, rollout_batch_size=2, gradient_checkpointing=True, chunk_tokens=3),
    "critic": CONFIG,
    "mix": replace(CONFIG, ptx_coefficient=0.3, ptx_batch_size=4),
    "adapters": replace(CONFIG, lora_rank=2),
    "rloo": replace(CONFIG, advantage="rloo", kl_estimator="k3"),
}


def models_of(kind):
    """A policy, and a critic if it has one of its own."""
    torch.manual_seed(0)
    config = LlamaConfig(**SIZE, **TOKENS, initializer_range=0.3, tie_word_embeddings=kind == "several")
    model = LlamaForCausalLM(config)
    if kind != "critic":
        return model, None
    return model, LlamaForSequenceClassification(LlamaConfig(**config.to_dict() | {"num_labels": 1}))


def agent_of(kind, model, judge):
    """PPO on this process's rows."""
    env = TextGenerationVectorEnv(
        ROWS // distributed.size(),
        prompts=["a", "b"],
        tokenizer=story_tokenizer(),
        reward=lambda prompt, response: 0.0,
        max_prompt_length=PROMPT,
        max_response_length=STEPS,
        samples_per_prompt=2,
        vocabulary=VOCABULARY,
    )
    texts = [[number % VOCABULARY, 5, number % 7] for number in range(50)] if kind == "mix" else ()
    return make_text_ppo(env, model, KINDS[kind], critic=judge, pretraining=texts)


def roll_out(agent):
    """Fills the buffer with this process's rows of a fixed rollout, of unequal lengths."""
    rng, buffer, rows = np.random.default_rng(0), agent.rollout_buffer, ROWS // distributed.size()
    mine = slice(distributed.rank() * rows, (distributed.rank() + 1) * rows)
    tokens, lengths = rng.integers(2, VOCABULARY, (ROWS, PROMPT + STEPS)), np.array([6, 1, 3, 6, 2, 2, 1, 4])
    rewards, noise = rng.normal(size=ROWS), rng.normal(scale=0.1, size=(ROWS, STEPS))
    buffer.reset()
    live, places = np.arange(STEPS) < lengths[mine, None], np.arange(buffer.tokens.shape[1])
    buffer.tokens[:, : PROMPT + STEPS], buffer.live[:], buffer.weights[:] = tokens[mine], live, live
    buffer.written[:] = (places >= PROMPT) & (places < PROMPT + lengths[mine, None])
    buffer.rewards[np.arange(rows), lengths[mine] - 1] = rewards[mine]
    agent.policy.set_training_mode(False)
    with torch.no_grad():
        scores = agent.policy.scorer(*buffer._tensors(np.arange(rows)))
    buffer.log_probs = buffer._grid(scores.log_probs.numpy() + noise[mine][live].astype(np.float32))
    buffer.values, buffer.full = buffer._grid(scores.values.numpy()), True
    buffer.compute_returns_and_advantage(None, np.ones(rows))


def mixed_batch(mix):
    """This process's part of the texts that one process draws, of unequal lengths."""
    texts = [[3, 4, 5, 6, 7], [8, 9], [10, 11, 12], [13, 14]]
    with patch.object(mix, "texts", texts):
        per = len(texts) // distributed.size()
        chosen = torch.arange(per) + per * distributed.rank()
        with patch("torch.randint", return_value=chosen):
            return type(mix)._batch(mix)


def held_here(agent):
    """Bytes of weights, gradients and the optimizer's moments in this process."""
    policy, steps = agent.policy, agent.policy.optimizer.state
    weights = [*policy.scorer.parameters(), *(part for one in policy._reference if one for part in one.parameters())]
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    moments = [kept[name] for kept in steps.values() for name in ("exp_avg", "exp_avg_sq")]
    mine = [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in (*weights, *gradients, *moments)]
    return sum(tensor.nbytes for tensor in mine)


def updated(kind):
    """All weights after two rollouts, by name, what the last rollout came to, and the bytes that are held."""
    agent, rows = agent_of(kind, *models_of(kind)), ROWS // distributed.size()
    agent.set_logger(Logger(None, []))
    if kind == "mix":
        mix = agent.policy.pretraining
        mix._batch = lambda: mixed_batch(mix)
    for _ in range(2):
        roll_out(agent)
        # The minibatch of one process is those of both, put together.
        order = np.arange(rows) if distributed.size() > 1 else np.array([0, 1, 4, 5, 2, 3, 6, 7])
        with patch("numpy.random.permutation", return_value=order):
            agent.train()
    weights, _ = distributed.whole_state(agent.policy.scorer, agent.policy.optimizer)
    statistics = agent.rollout_buffer.statistics | {"next coefficient": agent.rollout_buffer.kl.coefficient}
    return weights, statistics, held_here(agent)


def work(folder):
    """What each of the two processes does."""
    torch.set_num_threads(1)
    with distributed.joined():
        for kind in KINDS:
            found = updated(kind)
            if distributed.is_first():
                torch.save(found, folder / f"{kind}.pt")
        for name, told in steps(folder).items():
            assert command(told) == 0, name
        assert terminated(folder) == 128 + signal.SIGTERM
        assert command(ppo(folder, "parts")) == 0
        sharding_trainer()
        assert command(["sft", "story", f"{folder}/shown.jsonl", "--out", f"{folder}/sharded", *SFT]) == 0
        if distributed.is_first():
            (folder / "left").touch()
    assert (folder / "left").exists()  # they leave together


# The verbs.

SFT = ["--epochs", "1", "--batch-size", "8", "--learning-rate", "3e-3"]
ROOM = ["--prompt-tokens", "12", "--response-tokens", "8", "--reference", "8"]
PPO = ["--rollouts", "3", "--rows", "8", "--batch-size", "8", "--gold", "sentiment", *ROOM]


def data(folder):
    """Writes demonstrations, pairs that differ in their last sentence, and prompts."""
    corpus = StoryCorpus(0)
    shown = corpus.demonstrations(48)
    pairs = [(prompt, text.split(".")[0] + ". ") for prompt, text in shown]
    rows = {
        "shown": [{"prompt": prompt, "completion": text} for prompt, text in shown],
        "pairs": [{"prompt": p, "chosen": f"{t}He was happy.", "rejected": f"{t}He was sad."} for p, t in pairs],
        "prompts": [{"prompt": prompt} for prompt in corpus.prompts(8)],
    }
    for name, table in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))


def steps(folder):
    """Each verb's arguments."""
    told = {
        "sft": ["story", f"{folder}/shown.jsonl", *SFT],
        "reward": [f"{folder}/sft", f"{folder}/pairs.jsonl", "--reference", "8", "--response-tokens", "8"],
        "dpo": [f"{folder}/sft", f"{folder}/pairs.jsonl", "--epochs", "1"],
    }
    verbs = {name: [name, *arguments, "--out", f"{folder}/{name}"] for name, arguments in told.items()}
    return verbs | {"ppo": ppo(folder, "ppo")}


def ppo(folder, out):
    rest = ["--reward", f"{folder}/reward", "--prompts", f"{folder}/prompts.jsonl", "--out", f"{folder}/{out}"]
    return ["ppo", f"{folder}/sft", *rest, *PPO]


def terminated(folder):
    """What PPO returns when its second process alone is terminated, in the second rollout."""
    note = PPOTraining._note

    def noted(training):
        note(training)
        if distributed.rank() == 1 and len(training.rows) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with patch.object(PPOTraining, "_note", noted):
        return command(ppo(folder, "parts"))


def sharding_trainer():
    """Has the Trainer share the weights out as by `accelerate launch` with FSDP2, which there is for GPUs only.

    Accelerate is told that the processes have GPUs; what they do is the same on CPUs.
    """
    begin, step = PartialState.__init__, Trainer.training_step

    def begun(self, *args, **options):
        begin(self, *args, **options)
        self.distributed_type = DistributedType.MULTI_GPU

    def stepped(self, model, *args, **options):
        assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
        return step(self, model, *args, **options)

    PartialState.__init__, Trainer.training_step = begun, stepped
    plugin = {"VERSION": "2", "AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP", "STATE_DICT_TYPE": "FULL_STATE_DICT"}
    os.environ |= {"ACCELERATE_USE_FSDP": "true"} | {f"FSDP_{name}": value for name, value in plugin.items()}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder that two processes left."""
    folder = tmp_path_factory.mktemp("two")
    data(folder)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, __file__, str(folder)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    (folder / "said").write_text(done.stdout)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_make_the_update_of_one(two, kind):
    found, said, size = torch.load(two / f"{kind}.pt")
    weights, statistics, whole = updated(kind)
    assert found.keys() == weights.keys()
    assert said == pytest.approx(statistics, abs=1e-5)
    moved = 0.0
    for name, start in agent_of(kind, *models_of(kind)).policy.scorer.state_dict().items():
        torch.testing.assert_close(found[name], weights[name], atol=1e-5, rtol=0, msg=name)
        moved = max(moved, float((weights[name] - start).abs().max()))
    assert moved > 1e-3
    assert size == pytest.approx(whole / 2, rel=0.02)  # odd sizes are not shared out to the byte


@pytest.mark.parametrize("name", ["sft", "reward", "dpo", "ppo", "sharded"])
def test_two_processes_leave_one_folder_that_loads(two, name):
    kind = AutoModelForSequenceClassification if name == "reward" else AutoModelForCausalLM
    assert all(torch.isfinite(weights).all() for weights in kind.from_pretrained(two / name).state_dict().values())
    assert not (two / name / "checkpoints").exists()
    assert not (two / name / "step.lock").exists()
    assert (two / "said").read_text().count(f"  {two / name}\n") == 1  # one of them speaks


def test_shared_out_by_fsdp_the_trainer_learns_what_it_learns_with_copies(two):
    copies, sharded = (AutoModelForCausalLM.from_pretrained(two / name).state_dict() for name in ("sft", "sharded"))
    untrained = small_lm(seed=0).state_dict()
    for name, weights in copies.items():
        torch.testing.assert_close(sharded[name], weights, atol=1e-5, rtol=0, msg=name)
    assert any((weights - untrained[name]).abs().max() > 1e-3 for name, weights in copies.items())


def test_processes_stop_together_and_go_on_to_the_same_weights(two):
    whole, parts = (AutoModelForCausalLM.from_pretrained(two / name).state_dict() for name in ("ppo", "parts"))
    assert all(torch.equal(parts[name], weights) for name, weights in whole.items())
    tables = [list(csv.DictReader((two / name / "metrics.csv").read_text().splitlines())) for name in ("ppo", "parts")]
    assert [row["steps"] for row in tables[0]] == ["64", "128", "192"]  # of both processes
    assert [row | {"seconds": 0} for row in tables[0]] == [row | {"seconds": 0} for row in tables[1]]


VERBS = {"sft": sft.SFTStepConfig, "reward": reward.RewardStepConfig, "ppo": PPOStepConfig, "dpo": dpo.DPOStepConfig}
LAUNCHED = re.findall(r"^    (?:torchrun|accelerate launch) .* -m prefgym (.*)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("line", LAUNCHED)
def test_documented_launches_are_understood(line):
    verb, *options = shlex.split(line)
    told(VERBS[verb], verb, options)


def test_every_launch_of_the_page_is_among_them():
    assert len(LAUNCHED) == len(re.findall(r"^    \w", PAGE, re.MULTILINE)) == 6


@pytest.mark.parametrize("lora", [False, True])
def test_the_memory_of_the_table_is_what_is_held(lora):
    spec = importlib.util.spec_from_file_location("memory", ROOT / "benchmarks" / "memory.py")
    memory = importlib.util.module_from_spec(spec)
    with patch.dict(sys.modules, {"memory": memory}), patch.object(sys, "path", [str(ROOT / "benchmarks"), *sys.path]):
        spec.loader.exec_module(memory)
    config = GPT2Config(n_layer=3, n_embd=32, n_head=2, **TOKENS, num_labels=1)
    model, judge = GPT2LMHeadModel(config), GPT2ForSequenceClassification(config)
    counted = memory.counted(model)
    agent = agent_of("adapters" if lora else "critic", model, None if lora else judge)
    agent.set_logger(Logger(None, []))
    roll_out(agent)
    agent.train()
    found = memory.held(counted, 1, memory.MemoryConfig(lora_rank=2), lora=lora)
    assert held_here(agent) / 2**30 == pytest.approx(found["shares"], rel=0.005)
    assert memory.table(memory.MemoryConfig(gpus=(8,))).splitlines()[4] in PAGE  # 6B


def test_what_is_of_all_processes_must_be_divided_by_them():
    with patch.object(distributed, "size", return_value=3):
        assert distributed.part("rows", 12) == 4
        with pytest.raises(ValueError, match="`rows` is of all processes together: it must be a multiple of their 3"):
            distributed.part("rows", 8)


@pytest.mark.parametrize("processes", [1, 2])
def test_what_was_said_is_heard_and_the_code_is_told_whether_torchrun_started_it_or_not(processes):
    rule = "import sys; from prefgym.__main__ import leave; print('said'); leave(7)"
    world = os.environ | {"WORLD_SIZE": str(processes)}
    done = subprocess.run([sys.executable, "-c", rule], env=world, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (7, "said\n")


if __name__ == "__main__":
    work(Path(sys.argv[1]))
    leave(0)
