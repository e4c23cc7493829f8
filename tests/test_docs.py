"""What README and docs say is true: code blocks run, commands run, the tree names every file, links lead somewhere.

Everything runs as documented but for its budget: in code, the numbers of `SMALLER` are replaced (each must be there, so
that none goes stale); to a command, the options of `TINY` or `MEASURE` are appended, which overrule the earlier ones.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import tyro

from prefgym.comparisons import Answer, Query
from prefgym.plan import LoopConfig
from prefgym.queries import Candidates
from prefgym.scripts import main
from prefgym.scripts.backflip import BackflipConfig
from prefgym.scripts.label import LabelConfig
from prefgym.scripts.teach import TeachConfig
from prefgym.segments import Segment

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text()
SMALLER = {"labels=200": "labels=10", "steps=200_000": "steps=24_000"}
SMALLER_TEXT = {'"smollm2"': '"story"', "labels=300": "labels=12", "16 * 32 * 40": "16 * 32 * 6"}

TINY = "--envs 16 --num-threads 1 --steps 4000 --sessions 3 --explore-steps 1600 --segment-length 20 --window 80"
TINY += " --ppo.n-steps 32 --ppo.batch-size 128 --ppo.n-epochs 1 --reward.updates 5"
LABELS = " --labels 12"
MEASURE = {
    "backflip_curve": f"--labels 12 --teachers oracle --seeds 1 --episodes 2 -- {TINY}",
    "teacher_scores": "--seeds 1 --envs 16 --steps 2000 --episodes 2 --ppo.batch-size 128",
    "throughput": "--turns 1 --envs 2 --threads 1 --loop none",
}
MADE_LATER = {"docs/backflip.gif"}  # made by `make demo`, once the figures are final


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def section(title):
    """The text under a heading of the README."""
    return re.search(rf"^#+ {title}\n(.*?)(?=^#+ |\Z)", README, re.DOTALL | re.MULTILINE)[1]


def run(code):
    names = {"__name__": "documented"}
    exec(compile(code, "README.md", "exec"), names)
    return names


# Code.


def test_the_api_in_15_lines(tmp_path, monkeypatch):
    (code,) = blocks(section("In Python"), "python")
    assert len([line for line in code.splitlines() if line]) <= 15
    for usual, smaller in SMALLER.items():
        assert code.count(usual) == 1
        code = code.replace(usual, smaller)
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)  # as make test does: more collapse on a busy machine
    names = run(code)
    assert names["parts"][-1].counts()["comparisons"] == 10
    assert 0 < names["agent"].num_timesteps <= 24_000 - LoopConfig.explore_steps
    names["parts"][-1].close()
    names["env"].close()


def test_your_own_text_policy(tmp_path, monkeypatch):
    from prefgym.agents.text_policy import load_policy

    (code,) = blocks(section("Your own text policy"), "python")
    for usual, smaller in SMALLER_TEXT.items():
        assert code.count(usual) == 1
        code = code.replace(usual, smaller)
    monkeypatch.chdir(tmp_path)
    names = run(code)
    assert names["parts"][-1].counts()["comparisons"] == 12
    assert load_policy(tmp_path / "my-model").respond(["rain"], max_tokens=4, max_prompt_tokens=8)
    names["parts"][-1].close()
    names["env"].close()


def test_how_to_add_an_environment():
    from gymnasium.utils.env_checker import check_env

    (code,) = blocks(section("An environment"), "python")
    names = run(code)
    env = names["env"]
    env.reset(seed=0)
    assert env.step(env.action_space.sample())[1].shape == (8,)
    env.close()
    single = names["gym"].make("my/Jump-v0")
    check_env(single.unwrapped, skip_render_check=True)
    single.close()
    del names["gym"].registry["my/Jump-v0"]


def segment(effort, seed):
    observations = np.random.default_rng(seed).normal(size=(5, 3))
    return Segment(observations, np.full((5, 2), effort), np.zeros((5, 0)), np.zeros(5))


def test_how_to_add_a_teacher():
    (code,) = blocks(section("A teacher"), "python")
    teacher = run(code)["Lazy"](seed=0)
    teacher.submit([Query(segment(0.1, 1), segment(0.9, 2)), Query(segment(-0.9, 3), segment(0.1, 4))])
    assert [said.answer for said in teacher.collect()] == [Answer.FIRST, Answer.SECOND]
    assert teacher.collect() == []


def test_how_to_add_a_query_strategy():
    (code,) = blocks(section("A query strategy"), "python")
    strategy = run(code)["Extremes"]()
    candidates = Candidates(np.arange(8.0)[None], np.zeros((8, 0)), np.arange(8), np.ones(8, bool))
    pairs = strategy.choose(candidates, 3, np.random.default_rng(0))
    assert sorted(map(sorted, pairs.tolist())) == [[0, 7], [1, 6], [2, 5]]
    with pytest.raises(ValueError, match="at most 4"):
        strategy.choose(candidates, 5, np.random.default_rng(0))


def test_how_to_add_a_method_is_a_method_that_was_added():
    """tests/test_benchmark.py runs it, under the contract of all methods."""
    (code,) = blocks((ROOT / "docs" / "benchmark.md").read_text(), "python")
    assert code == (ROOT / "prefgym" / "benchmark" / "methods" / "linear.py").read_text()


def test_every_block_of_code_is_run_by_a_test_above():
    assert sum(len(blocks(page.read_text(), "python")) for page in PAGES) == 6


# Commands.


def commands(pages=None):
    """All documented command lines, in order; those for people, in docs/clicks.md, are another test's."""
    pages = [page for page in PAGES if page.name != "clicks.md"] if pages is None else pages
    found = [line for page in pages for block in blocks(page.read_text(), "sh") for line in block.splitlines()]
    return [line for line in found if line and not line.startswith("#")]


def of(program):
    return [line for line in commands() if line.startswith(program + " ")]


def test_every_command_is_run_by_a_test_below():
    assert {line.split()[0] for line in commands()} == {"make", "prefgym", "python"}


@pytest.mark.parametrize(("target", "does"), [("demo", "prefgym backflip"), ("test", "-m pytest")])
def test_make_sets_up_and_does_what_it_says(target, does):
    """What would be run on a fresh machine; .ci/run really runs one, `prefgym backflip` below is the other."""
    assert f"make {target}" in commands()
    told = subprocess.run(
        ["make", "--dry-run", "--always-make", target], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert re.search(rf"install .*torch==.*\n.*install .*--editable .*\n.*\n.*{does}", told)


def call(arguments, folder, **environment):
    settings = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    done = subprocess.run(arguments, cwd=folder, env=settings, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, (arguments, done.stderr)
    return done.stdout


PLAY = """
import sys
from prefgym.envs.ink import pygame
from prefgym.scripts import main, play

class Performance(play.Performance):
    number = 0

    def step(self):
        self.number += 1
        if self.number == 20:
            pygame.event.post(pygame.event.Event(pygame.QUIT))
        return super().step()

play.Performance = Performance  # the same window, closed by nobody after 20 steps
sys.exit(main())
"""


def test_the_commands_of_prefgym_run_in_the_order_given(tmp_path, display, monkeypatch):
    monkeypatch.chdir(tmp_path)
    verbs = []
    for line in of("prefgym"):
        verb, *options = shlex.split(line)[1:]
        if verb == "backflip":
            options += shlex.split(TINY + (LABELS if "--labels 0 " not in line else ""))
        elif verb == "evaluate":
            options += ["--episodes", "2"]
        if verb == "play":
            call([sys.executable, "-c", PLAY, verb, *options], tmp_path, DISPLAY=display, SDL_VIDEODRIVER="x11")
        else:
            assert main([verb, *options]) == 0
        verbs.append(verb)
    assert set(verbs) == {"backflip", "play", "evaluate", "info", "report"}
    assert (tmp_path / "runs/third/report.html").exists()


FOR_PEOPLE = {"backflip": BackflipConfig, "teach": TeachConfig, "label": LabelConfig}


@pytest.mark.parametrize("line", commands([ROOT / "docs" / "clicks.md"]))
def test_the_commands_for_people_are_understood(line):
    """tests/test_teaching.py, test_label.py and others run their like, with people."""
    program, verb, *options = shlex.split(line.partition("#")[0])
    assert program == "prefgym"
    tyro.cli(FOR_PEOPLE[verb], args=options)


@pytest.mark.parametrize("line", [line for line in of("python") if "benchmarks/" in line])
def test_the_benchmarks_run(line, tmp_path):
    _, script, *options = shlex.split(line)
    place = options.index("--") if "--" in options else len(options)
    smaller = shlex.split(MEASURE[Path(script).stem])
    told = [sys.executable, str(ROOT / script), *options[:place], *smaller, *options[place + 1 :]]
    printed = call(told, tmp_path)
    assert printed.startswith("| ")
    assert "cores" in printed
    if "--out" in options:
        assert list((tmp_path / "runs").rglob("*.csv"))
    if "--teachers" in options:
        assert call(told, tmp_path) == printed  # nothing is done twice


def test_the_benchmark_for_a_gpu_runs_without_one(tmp_path):
    tiny = "--sizes tiny --rows 8 --prompt 6 --response 8 --batch-size 4 --micro-batch-size 2 --episodes 16 --turns 1"
    printed = call([sys.executable, str(ROOT / "benchmarks/text_gpu.py"), *shlex.split(tiny)], tmp_path)
    assert [line.split("|")[2].strip() for line in printed.splitlines() if line.startswith("| tiny")] == [
        "writing", "learning, policy and critic", "SFT", "reward model", "PPO"]  # fmt: skip


def test_the_profile_is_made_by_the_command_that_it_names(tmp_path):
    (line,) = [line for line in of("python") if "cProfile" in line]
    told = line.replace(".venv/bin/prefgym", str(Path(sys.executable).with_name("prefgym")))
    call([sys.executable, *shlex.split(told + " " + TINY + LABELS)[1:]], tmp_path)
    assert (tmp_path / "profile.out").stat().st_size > 100_000


# The page itself.


def tree():
    """Paths that the README's tree names."""
    (text,) = blocks(section("The tree"), "text")
    folders, paths = [], []
    for line in text.splitlines():
        name = line.split()[0]
        folders = folders[: (len(line) - len(line.lstrip())) // 2]
        if name.endswith("/"):
            folders.append(name)
        else:
            paths.append("".join(folders) + name)
            assert len(line.split()) > 1, f"{paths[-1]} has no comment"
    return paths


def test_the_tree_names_every_file_once():
    told = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if told.returncode:
        pytest.skip("not a clone: there is no list of the files that belong to it")
    here = {path for path in told.stdout.splitlines() if (ROOT / path).exists()} | MADE_LATER
    assert here - set(tree()) == set(), "files that the tree in README.md lacks"
    assert set(tree()) - here == set(), "names in the tree of README.md without a file"
    assert len(tree()) == len(set(tree()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()) if "://" not in target]
    paths = [(page.parent / target).resolve().relative_to(ROOT).as_posix() for target in targets]
    assert [path for path in paths if not (ROOT / path).exists() and path not in MADE_LATER] == []


def test_the_animation_is_small():
    path = ROOT / "docs/backflip.gif"
    assert not path.exists() or path.stat().st_size <= 2**20


def test_every_registered_name_is_documented_where_one_chooses_it():
    from dataclasses import fields

    from prefgym.queries import queries
    from prefgym.scripts.train_config import TrainConfig
    from prefgym.teachers import teachers

    assert {"teacher", "query"} <= {field.name for field in fields(TrainConfig)}
    assert all(name in TrainConfig.__doc__ for name in (*teachers, *queries))
