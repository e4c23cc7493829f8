import json
import math
import random
import time

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from torch.testing import assert_close
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from prefgym.agents import reward_model as module
from prefgym.agents.fine_tuning import encode
from prefgym.agents.reward_heads import (
    head_of,
    load_reward_model,
    make_reward_model,
    member_scores,
    members_of,
    offsets,
    published,
    recentre,
    save_reward_model,
)
from prefgym.agents.reward_model import (
    Contest,
    ContestCollator,
    Contests,
    RewardModelConfig,
    RewardModelTrainer,
    contest_of,
    fit_contests,
    fit_reward_model,
    pair_report,
)
from prefgym.preferences import preference_loss
from prefgym.text import Pair, Ranking

LN2 = math.log(2)
NAMES = ["one", "two", "three", "four", "five", "six"]
WORDS = ["<pad>", "<bos>", "<eos>", "<unk>", "say", "good", *NAMES]
SHAPE = {"vocab_size": len(WORDS), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SIZE = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tokenizer():
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    named = {name: f"<{name.partition('_')[0]}>" for name in ("pad_token", "bos_token", "eos_token")}
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", padding_side="left", **named)


def tiny():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SHAPE, **SIZE, max_position_embeddings=64))


def tiny_gpt2():
    torch.manual_seed(0)
    shape = SHAPE | {"pad_token_id": None}
    return GPT2LMHeadModel(GPT2Config(**shape, n_embd=32, n_layer=2, n_head=2, n_positions=64))


def say(rng, good):
    words = rng.choices(NAMES, k=rng.randint(2, 7))
    words[rng.randrange(len(words))] = "good" if good else rng.choice(NAMES)
    return " ".join(words)


def rankings(count, seed=0, size=2, prompts=216, liked=True):
    """Responses with the word "good" are better (or worse) than those without; which come first is drawn."""
    rng, found = random.Random(seed), []
    for number in range(count):
        ranks = rng.sample([0, *(rng.randint(0, 1) for _ in range(size - 2)), 1], size)
        place = number % prompts
        prompt = f"say {NAMES[place // 36 % 6]} {NAMES[place // 6 % 6]} {NAMES[place % 6]}"
        found.append(Ranking(prompt, [say(rng, (rank == 0) == liked) for rank in ranks], ranks))
    return found


class First(nn.Module):
    """A reward model whose score is ln 2 times a text's first token, and which counts the texts it is shown."""

    def __init__(self):
        super().__init__()
        self.scale, self.seen = nn.Parameter(torch.tensor(LN2)), []

    def forward(self, input_ids, attention_mask):
        self.seen.append(len(input_ids))
        return SequenceClassifierOutput(logits=(self.scale * input_ids[:, :1]))


def loss_of(model, contests, noise=0.0, drawn=None):
    trainer = RewardModelTrainer.__new__(RewardModelTrainer)  # the loss needs nothing of a Trainer
    trainer.noise = noise
    data = Contests(contests)
    data.drawn = data.drawn if drawn is None else np.array(drawn, np.float32)
    return trainer.compute_loss(model, ContestCollator(0)([data[n] for n in range(len(data))]))


def contest(*first_tokens, ranks, **options):
    rows = tuple((token, 7, 2) for token in first_tokens)
    return Contest(rows, tuple(Ranking("", [""] * len(ranks), ranks).pairs()), **options)


def test_loss_by_hand():
    three = contest(1, 3, 2, ranks=(2, 0, 1))  # scores ln2, 3 ln2, 2 ln2, in their order: (2 ln 3/2 + ln 5/4) / 3
    assert loss_of(First(), [three]).item() == pytest.approx(0.344691, abs=1e-6)
    tie = contest(1, 1, ranks=(0, 0))
    assert loss_of(First(), [tie]).item() == pytest.approx(LN2, abs=1e-6)
    assert loss_of(First(), [three, tie]).item() == pytest.approx((0.344691 + LN2) / 2, abs=1e-6)
    half = contest(2, 1, ranks=(0, 0))  # -(ln 2/3 + ln 1/3) / 2
    assert loss_of(First(), [half]).item() == pytest.approx(0.752039, abs=1e-6)
    coin = contest(2, 1, ranks=(0, 1))  # -ln(0.9 * 2/3 + 0.05)
    assert loss_of(First(), [coin], noise=0.1).item() == pytest.approx(0.430783, abs=1e-6)


def test_what_heads_did_not_draw_does_not_count():
    one, other = contest(1, 2, ranks=(1, 0)), contest(1, 4, ranks=(1, 0))  # ln 3/2, ln 9/8
    assert loss_of(First(), [one, other], drawn=[[2], [0]]).item() == pytest.approx(math.log(1.5), abs=1e-6)
    assert loss_of(First(), [one, other], drawn=[[0], [1]]).item() == pytest.approx(math.log(1.125) / 2, abs=1e-6)


def test_every_completion_is_encoded_once():
    model = First()
    loss_of(model, [contest(1, 2, 3, 4, ranks=(0, 1, 2, 3)), contest(5, 6, ranks=(0, 0))])
    assert model.seen == [4 + 2]  # not the 2 * (6 + 1) of the pairs


def test_a_ranking_is_the_mean_of_its_pairs_computed_apart(tokenizer):
    model = make_reward_model(tiny(), tokenizer, 2).eval()
    ranking = Ranking("say one", ("two", "good good", "", "six five four", "one"), (1, 0, 2, 1, 3))
    together, apart = loss_of(model, [contest_of(ranking, tokenizer)]), []
    for first, second, target in ranking.pairs():
        rows = [encode(tokenizer, ranking.prompt, ranking.responses[side]).tokens for side in (first, second)]
        scores = [model(input_ids=torch.tensor([row])).logits[0] for row in rows]  # each alone, without padding
        apart.append(preference_loss(*scores, target).mean())
    assert len(apart) == 10
    assert_close(together, torch.stack(apart).mean(), rtol=1e-5, atol=1e-6)


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def one_step(tokenizer, batch_size, accumulation, folder):
    model = make_reward_model(tiny(), tokenizer, 2)
    config = RewardModelConfig(batch_size=batch_size, accumulation=accumulation, learning_rate=1e-2, warmup=0)
    data = Contests(
        [contest_of(ranking, tokenizer) for size in (2, 4) for ranking in rankings(2, size=size)], 2, seed=0
    )
    arguments = config.arguments(folder, optim="sgd", max_grad_norm=1e9)
    RewardModelTrainer(model, arguments, train_dataset=data, data_collator=ContestCollator(0)).train()
    return weights(model)


def test_two_accumulated_batches_are_one_of_twice_the_size(tokenizer, tmp_path):
    once, twice = (one_step(tokenizer, *sizes, tmp_path) for sizes in ((4, 1), (2, 2)))
    assert (once - weights(make_reward_model(tiny(), tokenizer, 2))).norm() > 1e-3
    assert_close(once, twice, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("liked", [True, False])
def test_it_learns_what_is_liked_from_200_comparisons(tokenizer, liked):
    began = time.perf_counter()
    model = make_reward_model(tiny(), tokenizer)
    report = fit_reward_model(model, tokenizer, rankings(200, liked=liked), RewardModelConfig(learning_rate=1e-3))
    assert time.perf_counter() - began < 15
    assert report.held_out.accuracy > 0.9
    assert report.held_out.log_likelihood > -0.3
    assert report.held_out.calibration_error < 0.2
    assert report.held_out.pairs == 20
    fresh = [contest_of(ranking, tokenizer) for ranking in rankings(300, seed=1, liked=liked)]
    assert pair_report(model, fresh).accuracy > 0.9


def test_prompts_are_held_out_and_trained_on_but_not_both(tokenizer, monkeypatch):
    seen = {}
    monkeypatch.setattr(module, "fit_contests", lambda model, used, *_: seen.update(used=used) or (0.0, 0))
    monkeypatch.setattr(module, "pair_report", lambda model, held: seen.update(held=held))
    model = make_reward_model(tiny(), tokenizer)
    report = fit_reward_model(model, tokenizer, rankings(60, prompts=10), RewardModelConfig(held_out=0.2))
    used, held = ({contest.prompt for contest in seen[side]} for side in ("used", "held"))
    assert (len(used), len(held), len(seen["used"]), report.rankings, report.prompts) == (8, 2, 48, 48, 8)
    assert not used & held


def test_a_report_by_hand(monkeypatch):
    two = Contest(((1,), (2,), (3,)), (Pair(0, 1, 1.0), Pair(1, 2, 1.0)), "p")
    scores = torch.tensor([[math.log(9), 0.0, 0.0]])  # P = 0.9 and right, P = 0.5
    monkeypatch.setattr(module, "member_scores", lambda model, rows: scores)
    report = pair_report(None, [two])
    assert report.accuracy == 0.75
    assert report.log_likelihood == pytest.approx((math.log(0.9) + math.log(0.5)) / 2, abs=1e-6)
    assert report.calibration_error == pytest.approx(0.05, abs=1e-6)
    assert (report.pairs, report.prompts) == (2, 1)
    assert math.isnan(pair_report(None, []).accuracy)


ROWS = [(4, 5, 6, 7, 2), (4, 5, 2), (4, 8, 9, 10, 11, 6, 2)]


@pytest.mark.parametrize("source", [tiny, tiny_gpt2])
def test_padding_changes_no_score(source, tokenizer):
    model = make_reward_model(source(), tokenizer, 3)
    alone = torch.cat([member_scores(model, [row]) for row in ROWS], dim=1)
    assert_close(member_scores(model, ROWS), alone, rtol=1e-5, atol=1e-5)
    assert_close(member_scores(model, ROWS, batch_size=2), alone, rtol=1e-5, atol=1e-5)
    assert alone.std(0, correction=0).min() > 1e-3  # fresh heads disagree
    with pytest.raises(ValueError, match="at least 1 token to be scored, text 1 has 0"):
        member_scores(model, [(4, 5), ()])


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("source", [tiny, tiny_gpt2])
def test_a_saved_folder_is_a_sequence_classifier_anywhere(source, members, tokenizer, tmp_path):
    model = make_reward_model(source(), tokenizer, members)
    recentre(model, ROWS[:2])
    scores = member_scores(model, ROWS)
    save_reward_model(model, tmp_path, tokenizer)
    assert (tmp_path / "heads.safetensors").exists() == (members > 1)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert plain.config.num_labels == 1
    logits = [plain(input_ids=torch.tensor([row])).logits.item() for row in ROWS]
    np.testing.assert_allclose(logits, scores[0], rtol=1e-5, atol=1e-6)
    assert len(AutoTokenizer.from_pretrained(tmp_path)) == len(WORDS)
    again = load_reward_model(tmp_path)
    assert_close(member_scores(again, ROWS), scores, rtol=1e-5, atol=1e-6)
    assert torch.equal(offsets(again), offsets(model))
    assert members_of(model) == members  # saving left it as it was
    assert_close(member_scores(model, ROWS), scores, rtol=1e-5, atol=1e-6)
    assert_close(member_scores(published(model), ROWS), scores[:1], rtol=1e-5, atol=1e-6)


def test_saving_fewer_heads_leaves_none_of_the_old_ones(tokenizer, tmp_path):
    save_reward_model(make_reward_model(tiny(), tokenizer, 3), tmp_path)
    save_reward_model(make_reward_model(tiny(), tokenizer), tmp_path)
    assert members_of(load_reward_model(tmp_path)) == 1


def test_any_published_reward_model_is_taken(tokenizer, tmp_path):
    torch.manual_seed(3)
    config = LlamaConfig(**SHAPE, **SIZE, num_labels=1)
    theirs = AutoModelForSequenceClassification.from_config(config).eval()
    theirs.save_pretrained(tmp_path)
    ours = make_reward_model(tmp_path, tokenizer, 2)
    logits = torch.stack([theirs(input_ids=torch.tensor([row])).logits[0, 0] for row in ROWS])
    assert_close(member_scores(ours, ROWS)[0], logits.detach(), rtol=1e-5, atol=1e-6)
    assert_close(offsets(ours), torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    config.num_labels = 3
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="must be a classifier with 1 label, got 3"):
        make_reward_model(tmp_path, tokenizer)


def test_a_trunk_is_copied_from_a_language_model_or_its_folder(tokenizer, tmp_path):
    language = tiny()
    language.save_pretrained(tmp_path)
    for source in (language, tmp_path):
        model = make_reward_model(source, tokenizer, 2)
        assert all(map(torch.equal, model.base_model.parameters(), language.base_model.parameters()))
        assert not {id(p) for p in model.parameters()} & {id(p) for p in language.parameters()}
    assert torch.equal(head_of(make_reward_model(language, tokenizer, 2))[1].weight, head_of(model)[1].weight)
    assert not torch.equal(head_of(make_reward_model(language, tokenizer, 2, 1))[1].weight, head_of(model)[1].weight)
    assert head_of(model)[1].weight.std().item() == pytest.approx(65**-0.5, rel=0.2)


def test_it_takes_the_first_layers_and_transformers_loads_them(tokenizer, tmp_path):
    language = tiny()
    model = make_reward_model(language, tokenizer, 2, depth=0.5)
    assert model.config.num_hidden_layers == len(model.base_model.layers) == 1
    assert language.config.num_hidden_layers == len(language.base_model.layers) == 2
    kept = language.base_model.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in model.base_model.state_dict().items())
    save_reward_model(model, tmp_path, tokenizer)
    rows = [(1, 5, 6), (1, 7)]
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    alone = [loaded(input_ids=torch.tensor([row])).logits.item() for row in rows]
    assert member_scores(model, rows)[0].tolist() == pytest.approx(alone, abs=1e-5)
    assert len(make_reward_model(language, tokenizer, depth=0.01).base_model.layers) == 1
    assert make_reward_model(model, tokenizer, 2, depth=0.5) is model
    for share in (0, 1.5):
        with pytest.raises(ValueError, match=rf"`depth` must be a share in \(0, 1\], got {share}"):
            make_reward_model(language, tokenizer, depth=share)


def test_what_is_no_reward_model_is_refused(tokenizer, tmp_path):
    with pytest.raises(ValueError, match="`members` must be at least 1, got 0"):
        make_reward_model(tiny(), tokenizer, 0)
    save_reward_model(make_reward_model(tiny(), tokenizer, 3), tmp_path)
    with pytest.raises(ValueError, match="`members` must be at least the model's 3 heads, got 2"):
        make_reward_model(tmp_path, tokenizer, 2)
    with pytest.raises(OSError, match=r"must be a local folder or a hub id that can be reached.*none"):
        load_reward_model(tmp_path / "none")


def test_recentring_is_kept_with_the_model(tokenizer, tmp_path):
    model = make_reward_model(tiny(), tokenizer, 2)
    texts = [("say one", "two"), ("say", "good"), ("say six", "five four three")]
    fit_reward_model(model, tokenizer, rankings(10), RewardModelConfig(learning_rate=1e-3), reference=texts)
    rows = [encode(tokenizer, *text).tokens for text in texts]
    save_reward_model(model, tmp_path)
    known = json.loads((tmp_path / "config.json").read_text())
    bias = torch.tensor(known["reward_bias"])[:, None]
    assert bias.abs().min() > 1e-3
    scores = member_scores(load_reward_model(tmp_path), rows)
    assert_close((scores + bias).mean(1), torch.zeros(2), rtol=0, atol=1e-6)
    assert known["reward_scale"] == [1.0, 1.0]
    recentre(model, rows, scale=True)
    rewards = (scores + offsets(model)[0][:, None]) * offsets(model)[1][:, None]
    assert_close(rewards.std(1, correction=0), torch.ones(2))
    recentre(model, rows[:1] * 3, scale=True)  # nothing to scale by
    assert offsets(model)[1].tolist() == [1.0, 1.0]
    with pytest.raises(ValueError, match="`rows` must be at least 1 text, got 0"):
        recentre(model, [])


def test_the_first_head_sees_all_and_the_others_what_they_drew():
    few, many = (Contests([contest(1, 2, ranks=(0, 1))] * count, 3, seed=5).drawn for count in (40, 90))
    assert (many[:, 0] == 1).all()
    assert 0.2 < (many[:, 1:] == 0).mean() < 0.55  # e**-1
    assert (many[:, 1] != many[:, 2]).any()
    np.testing.assert_array_equal(few, many[:40])  # new rankings change nothing of who saw the old ones
    assert (Contests([contest(1, 2, ranks=(0, 1))] * 9, 3).drawn == 1).all()


def test_a_fit_is_reproducible_and_goes_by_its_seed(tokenizer):
    def fitted(**options):
        model = make_reward_model(tiny(), tokenizer, 2)
        contests = [contest_of(ranking, tokenizer) for ranking in rankings(12)]
        fit_contests(model, contests, RewardModelConfig(learning_rate=1e-3, **options))
        return weights(model)

    once = fitted()
    assert_close(fitted(), once, rtol=0, atol=1e-6)
    assert not torch.allclose(fitted(seed=1), once, rtol=0, atol=1e-4)


def test_bad_options_name_the_rule_and_the_value():
    with pytest.raises(ValueError, match=r"`noise` must be in \[0, 1\), got 1"):
        RewardModelConfig(noise=1)
