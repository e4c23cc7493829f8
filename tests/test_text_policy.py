"""Prompts in, responses out: templates, examples, seeds, adapters; and the tasks that come with prefgym."""

import math

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from prefgym.agents.language_model import merged, with_lora
from prefgym.agents.reward_heads import load_reward_model, make_reward_model, save_reward_model
from prefgym.agents.small_lm import small_lm, story_tokenizer
from prefgym.agents.text_policy import TextPolicy, load_policy
from prefgym.cache import cache_folder
from prefgym.envs.text_tasks import own_task, text_tasks
from prefgym.text import Demonstration

TEMPLATE = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}<assistant>"
EXAMPLES = (Demonstration("Tell of Ann.", "Ann sang."), Demonstration("Tell of Ben.", "Ben ran."))


@pytest.fixture(scope="module")
def policy():
    return TextPolicy(small_lm(0), story_tokenizer())


def test_a_prompt_goes_as_it_is_in_a_template_or_behind_examples(policy):
    assert policy.put("Tell of Eva.") == "Tell of Eva."
    shown = TextPolicy(policy.model, policy.tokenizer, examples=EXAMPLES)
    assert shown.put("Tell of Eva.") == "Tell of Ann.\nAnn sang.\n\nTell of Ben.\nBen ran.\n\nTell of Eva.\n"
    tokenizer = story_tokenizer()
    tokenizer.chat_template = TEMPLATE
    assert TextPolicy(policy.model, tokenizer, chat=True).put("Hi") == "<user>Hi<assistant>"
    few = TextPolicy(policy.model, tokenizer, chat=True, examples=EXAMPLES[:1])
    assert few.put("Hi") == "<user>Tell of Ann.<assistant>Ann sang.<user>Hi<assistant>"


def test_the_seed_says_what_is_drawn_and_nothing_else_changes(policy):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    prompts = ["Tell a story about Ann.", "Write a story about Ben and a hat."] * 3
    said = policy.respond(prompts, seed=1, max_tokens=8, batch_size=4)
    assert len(said) == 6
    assert said == policy.respond(prompts, seed=1, max_tokens=8, batch_size=4)
    assert said != policy.respond(prompts, seed=2, max_tokens=8, batch_size=4)
    assert torch.equal(before, torch.get_rng_state())


def test_published_weights_of_half_precision_can_be_moved_by_small_steps(policy, tmp_path):
    # To the nearest bfloat16, 1 + 1e-5 is 1: AdamW would move none of the larger weights.
    assert torch.ones((), dtype=torch.bfloat16) + 1e-5 == 1
    small_lm(0).bfloat16().save_pretrained(tmp_path / "lm")
    policy.tokenizer.save_pretrained(tmp_path / "lm")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "lm").dtype == torch.bfloat16
    assert load_policy(tmp_path / "lm").model.dtype == torch.float32
    model = make_reward_model(small_lm(0), policy.tokenizer)
    save_reward_model(model.bfloat16(), tmp_path / "reward", policy.tokenizer)
    assert load_reward_model(tmp_path / "reward").dtype == torch.float32


def test_adapters_go_into_the_weights_of_what_is_saved(policy, tmp_path):
    pytest.importorskip("peft")
    torch.manual_seed(0)
    model = with_lora(small_lm(0), 4, 8)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    adapted = TextPolicy(model, policy.tokenizer)
    adapted.save(tmp_path)
    tokens = torch.tensor([[1, 5, 6, 7]])
    wanted = model(input_ids=tokens).logits
    assert not torch.allclose(wanted, policy.model(input_ids=tokens).logits, atol=1e-3)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.allclose(wanted, again(input_ids=tokens).logits, atol=1e-4)
    assert AutoTokenizer.from_pretrained(tmp_path).vocab_size == policy.tokenizer.vocab_size
    assert torch.equal(wanted, model(input_ids=tokens).logits), "merging is for the copy"
    assert merged(policy.model) is policy.model


def test_who_holds_the_plain_model_saves_the_adapters_put_into_it(policy, tmp_path):
    pytest.importorskip("peft")
    plain = small_lm(0)
    adapted = with_lora(plain, 4, 8)  # peft changes the model that it is given
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    TextPolicy(plain, policy.tokenizer).save(tmp_path)
    tokens = torch.tensor([[1, 5, 6, 7]])
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.allclose(adapted(input_ids=tokens).logits, again(input_ids=tokens).logits, atol=1e-4)
    reward = make_reward_model(plain, policy.tokenizer)
    inner = adapted.get_base_model().base_model(input_ids=tokens).last_hidden_state
    assert torch.allclose(inner, reward.base_model(input_ids=tokens).last_hidden_state, atol=1e-4)


def test_a_folder_is_loaded_and_pads_where_it_has_no_padding(policy, tmp_path):
    policy.save(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    again = load_policy(tmp_path)
    assert again.tokenizer.pad_token == again.tokenizer.eos_token
    assert again.respond(["Tell a story."], max_tokens=6) == policy.respond(["Tell a story."], max_tokens=6)
    with pytest.raises(ValueError, match="has none"):
        load_policy(tmp_path, chat=True)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(OSError, match="must have a tokenizer that can be read"):
        load_policy(tmp_path)


def test_the_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFGYM_CACHE", str(tmp_path / "kept"))
    assert cache_folder("models") == tmp_path / "kept" / "models"
    assert (tmp_path / "kept" / "models").is_dir()


@pytest.mark.parametrize("name", list(text_tasks))
def test_every_task_has_prompts_on_two_sides_and_a_gold_that_tells_them_apart(name):
    if name == "sentiment":
        pytest.importorskip("vaderSentiment")
    task = text_tasks[name](0)
    assert not set(task.prompts) & set(task.held_out)
    assert min(len(task.prompts), 4 * len(task.held_out)) >= 60
    assert (task.prompts, task.held_out) == (text_tasks[name](0).prompts, text_tasks[name](0).held_out)
    assert task.held_out != text_tasks[name](1).held_out
    said = ("", "It was a wonderful day. We were happy.", "Wretched, incomprehensible administration!")
    worth = [task.gold(task.prompts[0], response) for response in said]
    assert all(map(math.isfinite, worth))
    assert worth[1] > worth[2] or name == "story"
    assert all(shown.prompt not in task.held_out for shown in task.demonstrations)


def test_a_task_from_files_keeps_the_demonstrations_of_what_is_held_out_away(tmp_path):
    (tmp_path / "asked.txt").write_text("\n".join(f"Question {number}" for number in range(10)))
    rows = [f'{{"prompt": "Question {number}", "completion": "Yes."}}' for number in range(10)]
    (tmp_path / "shown.jsonl").write_text("\n".join(rows))
    task = own_task(tmp_path / "asked.txt", "length", demonstrations=tmp_path / "shown.jsonl")
    assert len(task.held_out) == 2
    assert {shown.prompt for shown in task.demonstrations} == set(task.prompts)
