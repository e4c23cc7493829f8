import json
import os
import re
import signal
import subprocess
import sys

import pytest

from prefgym.runs import Run
from prefgym.scripts import HELP, main, verbs
from prefgym.scripts.backflip import parsed
from prefgym.scripts.train_config import BACKFLIP
from prefgym.store import Store

TINY = ["--envs", "16", "--num-threads", "1", "--labels", "12", "--steps", "4000", "--sessions", "3"]
TINY += ["--explore-steps", "1600", "--segment-length", "20", "--window", "80", "--ppo.n-steps", "32"]
TINY += ["--ppo.batch-size", "128", "--ppo.n-epochs", "1", "--ppo.hidden", "16"]
TINY += ["--reward.updates", "5", "--reward.hidden", "16"]


def prefgym(*arguments, **options):
    """`prefgym` in a process of its own."""
    command = [sys.executable, "-m", "prefgym", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    return subprocess.Popen(command, text=True, env=environment, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run, what it printed, and its exit code."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    process = prefgym("backflip", *TINY, "--out", folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    return folder, out, err


# What is best depends on how many labels there are.


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("", (1_800_000, 0.8, 3.0)),
        ("--labels 300", (1_800_000, 0.8, 3.0)),
        ("--labels 299", (3_600_000, 0.2, 10.0)),
        ("--labels 90 --steps 50000 --until 1", (50_000, 1.0, 10.0)),
        ("--labels 90 --steps 1800000 --until 0.8 --reward.weight-decay 3", (1_800_000, 0.8, 3.0)),
        ("--labels 0 --reward-model runs/mine", (1_800_000, 0.8, 3.0)),
        ("--resume runs/mine", (1_800_000, 0.8, 3.0)),
    ],
)
def test_few_labels_are_made_the_most_of_unless_something_else_is_said(told, expected):
    config = parsed(told.split())
    assert (config.loop.steps, config.loop.until, config.reward.weight_decay) == expected
    assert config.reward.inputs == BACKFLIP.inputs


# Help.


def test_prefgym_alone_shows_the_verbs(capsys):
    assert main([]) == main(["--help"]) == 0
    assert capsys.readouterr().out == 2 * (HELP + "\n")
    assert all(f"prefgym {verb} " in HELP for verb in verbs)


def test_help_is_quick_and_imports_no_torch():
    script = "import sys; from prefgym.scripts import main; main(['--help']); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


@pytest.mark.parametrize("verb", verbs)
def test_every_verb_explains_itself(verb, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([verb, "--help"])
    assert exit_.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: prefgym {verb} ")
    assert "[-h]" in out


# Mistakes: one line, exit code 2, nothing written.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["backflp"], "Unknown verb 'backflp'. Did you mean 'backflip'?"),
        (["backflip", "--teacher", "orcale"], "Unknown teacher 'orcale'. Did you mean 'oracle'?"),
        (["backflip", "--query", "unifrom"], "Unknown query strategy 'unifrom'. Did you mean 'uniform'?"),
        (["backflip", "--agent", "sacc"], "Unknown agent 'sacc'. Did you mean 'sac'?"),
        (["backflip", "--schedule", "decaing"], "Unknown schedule 'decaing'. Did you mean 'decaying'?"),
        (["backflip", "--labels", "-3"], "`labels` must be at least 0, got -3"),
        (["backflip", "--labels", "0"], "`labels` must be at least 1 without --reward-model or --reuse-labels, got 0"),
        (["backflip", "--labels", "20000"], "`labels` must be at most 18000, got 20000"),
        (["backflip", "--steps", "0"], "`steps` must be at least 1, got 0"),
        (["backflip", "--steps", "12000", "--labels", "10"], "`steps` must be at least 16384"),
        (["backflip", "--envs", "0"], "`envs` must be at least 1, got 0"),
        (["backflip", "--seed", "-1"], "`seed` must be at least 0, got -1"),
        (["backflip", "--ppo.learning-rate", "0"], "`learning_rate` must be more than 0, got 0"),
        (["backflip", "--reward.members", "0"], "`members` must be more than 0, got 0"),
        (["backflip", "--reuse-labels", "nowhere"], "nowhere is not a run: it has no config.json"),
        (["backflip", "--resume", "nowhere"], "nowhere is not a run: it has no config.json"),
        (["evaluate", "nowhere"], "nowhere is not a run: it has no config.json"),
        (["info", "nowhere"], "nowhere is not a run: it has no config.json"),
    ],
)
def test_mistakes_are_named(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(arguments)
    except SystemExit as exit_:  # tyro's, for what it finds out by itself
        code = exit_.code
    printed = capsys.readouterr()
    assert code == 2
    assert message in re.sub(r"\s*│\s*", " ", printed.err + printed.out)
    assert not list(tmp_path.iterdir())


def test_a_bug_is_not_hidden(monkeypatch):
    def broken(arguments):
        raise RuntimeError("a bug")

    monkeypatch.setattr("prefgym.scripts.info.main", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["info", "x"])


def test_tracebacks_can_be_had(monkeypatch):
    monkeypatch.setenv("PREFGYM_DEBUG", "1")
    with pytest.raises(RuntimeError, match="is not a run"):
        main(["info", "nowhere"])


# A whole run.


def test_a_run_leaves_what_it_promises(finished):
    folder, out, err = finished
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "config.json",
        "metrics.csv",
        "feedback.db",
        "tensorboard",
        "checkpoint",
        "stages",
        "evaluation.json",
    }
    assert names >= {"policy.gif", "policy.webp", "report.html"}
    assert "clean backflips an episode, mean of 32, from 12 comparisons; 3,648 steps" in " ".join(out.split())
    assert str(folder / "report.html") in out.replace("\n", "")
    assert "12/12 labels" in err
    assert 1 <= len(list((folder / "stages").iterdir())) <= 8


def test_its_metrics_count_everything(finished):
    rows = Run.open(finished[0]).metrics()
    assert [row["session"] for row in rows] == list(range(len(rows)))
    assert rows[-1]["steps"] == 3648
    assert rows[-1]["labels"] == 12
    assert all(0 <= row["validation_accuracy"] <= 1 for row in rows[2:])


def test_evaluate_prints_json_alone(finished, capsys):
    assert main(["evaluate", str(finished[0]), "--episodes", "5", "--seed", "7"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert set(figures) == {"revolutions", "clean_backflips", "true_return", "episodes", "seed"}
    assert (figures["episodes"], figures["seed"]) == (5, 7)
    assert all(
        set(figures[name]) == {"mean", "std", "iqm"} for name in ("revolutions", "clean_backflips", "true_return")
    )


def test_evaluate_is_a_function_of_the_seed(finished, capsys):
    arguments = ["evaluate", str(finished[0]), "--episodes", "3", "--stochastic"]
    printed = []
    for seed in ("1", "1", "2"):
        main([*arguments, "--seed", seed])
        printed.append(json.loads(capsys.readouterr().out)["true_return"])
    assert printed[0] == printed[1] != printed[2]


def test_evaluate_changes_nothing_in_the_run(finished):
    before = contents(finished[0])
    main(["evaluate", str(finished[0]), "--episodes", "1"])
    assert contents(finished[0]) == before


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "feedback" not in path.name}


@pytest.mark.parametrize(("option", "value"), [("--episodes", "0"), ("--seed", "-1")])
def test_evaluate_refuses_nonsense(finished, option, value, capsys):
    assert main(["evaluate", str(finished[0]), option, value]) == 2
    assert f"`{option[2:]}` must be at least" in capsys.readouterr().err


def test_info_says_how_far_it_got(finished, capsys):
    assert main(["info", str(finished[0])]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "prefgym/Backflip-v0 by ppo, seed 0" in words
    assert "steps 3,648 of 4,000" in words
    assert "12 stored, 0 open" in words
    assert "next finished" in words


def test_a_finished_run_is_neither_resumed_nor_overwritten(finished, capsys):
    assert main(["backflip", "--resume", str(finished[0])]) == 2
    assert main(["backflip", "--out", str(finished[0])]) == 2
    printed = capsys.readouterr().err
    assert "is finished" in printed
    assert "exists already" in printed


def test_a_resumed_run_keeps_its_options(finished, capsys):
    assert main(["backflip", "--resume", str(finished[0]), "--labels", "3", "--ppo.gamma", "0.5"]) == 2
    assert "leave out `labels`, `ppo.gamma`" in capsys.readouterr().err


def test_labels_and_reward_model_of_a_run_can_be_reused(finished, tmp_path, capsys):
    options = [*TINY, "--labels", "0", "--out", str(tmp_path / "second")]
    assert main(["backflip", *options, "--reuse-labels", str(finished[0]), "--reward-model", str(finished[0])]) == 0
    assert "from 0 comparisons" in " ".join(capsys.readouterr().out.split())
    with Store(tmp_path / "second" / "feedback.db") as store:
        assert store.counts()["comparisons"] == 12


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopping_saves_and_says_how_to_go_on(number, code, tmp_path):
    folder = tmp_path / "run"
    endless = [*TINY, "--steps", "100000000", "--out", folder]
    process = prefgym("backflip", *endless, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    for line in process.stderr:
        if "labels" in line:  # the first session was held
            break
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert f"prefgym backflip --resume {folder}" in err.replace("\n", "")
    assert "Traceback" not in err
    assert Run.open(folder).has_checkpoint
