"""The benchmark: cells, results, pools, teachers, methods, jobs. Pools here are by lot, so that nothing is trained."""

import csv
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest

from prefgym.benchmark.cells import TRACKS, Cell, grid
from prefgym.benchmark.jobs import KILLED, Outcome, Progress, locally, run_cells
from prefgym.benchmark.making import stages
from prefgym.benchmark.methods import Scorer, methods
from prefgym.benchmark.methods.imitation import PYTHON, PeerError
from prefgym.benchmark.methods.linear import regression
from prefgym.benchmark.pools import STAGES, Pool, PoolSpec, load_pool, pool_path, read_pool, write_pool
from prefgym.benchmark.results import COLUMNS, Results, ResultsError
from prefgym.benchmark.scoring import correlation, judge, ranks
from prefgym.benchmark.settings import OnlineSettings, Settings
from prefgym.benchmark.suites import SUITES, narrowed, suite_of
from prefgym.benchmark.tasks import tasks
from prefgym.benchmark.teachers import Standard, teachers
from prefgym.benchmark.tracks.offline import Asking, answers, run_on, standard_of, view_of
from prefgym.benchmark.tracks.online import Heard, Trial
from prefgym.comparisons import Answer, Query
from prefgym.recorder import Pieces
from prefgym.registry import UnknownNameError
from prefgym.scripts import main

LENGTH, WIDTH = 20, 6
WEIGHTS = np.array([1.0, -0.5, 0.25, 0, 0, 0])
BUDGETS = (25, 40)
OFFLINE = [name for name in methods if "offline" in methods[name]().tracks and "control" in methods[name]().kinds]


def pieces(rng, count):
    """`count` segments a stage, the later the better; the reward is a part of what is seen."""
    parts = []
    for number in range(len(STAGES)):
        mood = rng.normal(size=(count, 1, WIDTH)) + 0.3 * number * np.sign(WEIGHTS)
        seen = (mood + 0.5 * rng.normal(size=(count, LENGTH, WIDTH))).astype(np.float32)
        rewards, done = (seen @ WEIGHTS).astype(np.float32), rng.normal(size=(count, LENGTH, 2)).astype(np.float32)
        parts.append((seen, done, np.zeros((count, LENGTH, 0), np.float32), rewards, np.full(count, 1000 * number)))
    return Pieces(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def by_lot(spec=None):
    spec = spec or PoolSpec(candidates=60, queries=50)
    rng = np.random.default_rng(spec.seed)
    facts = {"random_return": 0.0, "expert_return": 1.0}
    return Pool(pieces(rng, spec.candidates), pieces(rng, 2 * spec.queries), facts)


@pytest.fixture(scope="module")
def pool():
    return by_lot()


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Puts the pools of the smoke suite into a cache of the test's own."""
    monkeypatch.setenv("PREFGYM_CACHE", str(tmp_path / "cache"))
    spec = SUITES["smoke"].settings.pool
    for name in ("backflip", "cheetah-stand"):
        write_pool(pool_path(tasks[name], spec), by_lot(spec))


def teacher(pool, name="oracle", seed=0):
    return teachers[name](standard_of(pool, ""), seed)


def figures(pool, name, budgets=BUDGETS, seed=0):
    """Value by (budget, metric, stage)."""
    rows = run_on(methods[name](), pool, teacher(pool, seed=seed), budgets, seed)
    return {(row["budget"], row["metric"], row["stage"]): row["value"] for row in rows}


# Cells, suites, settings.


def test_a_cell_has_a_name_from_which_it_is_read_again():
    cell = Cell("offline", "backflip", "true", "oracle", 3)
    assert cell.name == "offline/backflip/true/oracle/3"
    assert "/" not in cell.file
    assert Cell.of(cell.name) == cell
    with pytest.raises(ValueError, match="track/task/method"):
        Cell.of("offline/backflip")
    with pytest.raises(ValueError, match="`track` must be one of offline"):
        Cell("outside", "backflip", "true", "oracle", 0)


def test_a_part_of_a_grid_is_a_fair_part():
    cells = grid("offline", ["a", "b"], ["x", "y"], ["oracle"], range(2))
    assert len(set(cells)) == 8
    assert {cell.seed for cell in cells[:4]} == {0}


@pytest.mark.parametrize("name", SUITES)
def test_suites_name_only_what_there_is(name):
    for cell in suite_of(name).cells:
        assert cell.track in methods[cell.method]().tracks
        assert cell.teacher in list(teachers)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"methods": ["uniform-ensembl"]}, "Unknown method 'uniform-ensembl'. Did you mean 'uniform-ensemble'"),
        ({"tasks": ["backflop"]}, "Unknown task 'backflop'. Did you mean 'backflip'"),
        ({"teachers": ["orakle"]}, "Did you mean 'oracle'"),
        ({"tracks": ["ofline"]}, "Did you mean 'offline'"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(options, said):
    with pytest.raises(UnknownNameError) as error:
        narrowed(suite_of("smoke"), **options)
    assert said in str(error.value)
    with pytest.raises(UnknownNameError, match="Did you mean 'smoke'"):
        suite_of("smokes")


def test_a_suite_is_narrowed():
    suite = narrowed(suite_of("smoke"), methods=["true", "uniform-surf"], tasks=["backflip"], seeds=3, budgets=[10, 20])
    assert {cell.method for cell in suite.cells if cell.track == "online"} == {"true"}  # surf cannot
    assert {cell.seed for cell in suite.cells} == {0, 1, 2}
    assert {cell.task for cell in suite.cells} == {"backflip"}
    assert suite.settings.budgets == (10, 20)
    assert narrowed(suite_of("smoke"), sessions=3).settings.online.sessions == 3
    with pytest.raises(ValueError, match="`sessions` must be at least 1, got 0"):
        narrowed(suite_of("smoke"), sessions=0)
    with pytest.raises(ValueError, match="nothing of 'smoke' is left"):
        narrowed(suite_of("smoke"), methods=["uniform-surf"], tracks=["online"])


@pytest.mark.parametrize("name", ["backflip", "hop", "cheetah-run"])
def test_the_same_task_is_there_with_clips_of_half_and_twice_the_length(name):
    short, usual, long = (tasks[f"{name}{length}"] for length in ("-short", "", "-long"))
    assert (short.segment_length, usual.segment_length, long.segment_length) == (25, 50, 100)
    assert short.env_id == usual.env_id == long.env_id
    assert len({pool_path(task, PoolSpec()) for task in (short, usual, long)}) == 3
    assert long.summary.endswith("Clips of 2 s.")
    assert "Clips" not in usual.summary


@pytest.mark.parametrize("budgets", [(), (0, 5), (50, 25), (5, 5)])
def test_budgets_ascend(budgets):
    with pytest.raises(ValueError, match="`budgets` must be"):
        Settings(budgets=budgets)


def test_settings_survive_json(tmp_path):
    settings = Settings(budgets=(3, 4), online=OnlineSettings(labels=(7,)))
    results = Results.begin(tmp_path / "r", "smoke", asdict(settings), [])
    assert Settings.of(results.facts["settings"]) == settings


# Results.


def begun(tmp_path, settings=None, suite="smoke", cells=("offline/backflip/true/oracle/0",)):
    return Results.begin(tmp_path / "r", suite, asdict(settings or Settings()), [Cell.of(name) for name in cells])


def test_a_cell_is_there_once_written_with_all_columns(tmp_path):
    results = begun(tmp_path)
    cell = results.cells[0]
    assert results.finished() == []
    results.fail(cell, "Traceback")
    assert results.failed() == {cell: "Traceback"}
    results.write(cell, [{"budget": 25, "metric": "accuracy", "stage": "all", "value": 0.5, "seconds": 1.0}])
    assert results.finished() == [cell]
    assert results.failed() == {}
    with results.collect().open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert tuple(row) == COLUMNS
    assert (row["method"], row["seed"], row["value"], row["kl"]) == ("true", "0", "0.5", "")
    assert row["machine"]


def test_a_folder_takes_more_cells_and_nothing_else(tmp_path):
    begun(tmp_path)
    results = begun(tmp_path, cells=("offline/backflip/true/oracle/1", "offline/backflip/true/oracle/0"))
    assert [cell.seed for cell in results.cells] == [0, 1]
    with pytest.raises(ResultsError, match=r"suite 'smoke', and not 'full'.* keep both, give another --out"):
        begun(tmp_path, suite="full")
    with pytest.raises(ResultsError, match=r"settings of budgets otherwise.* keep both"):
        begun(tmp_path, settings=Settings(budgets=(1,)))


def test_results_of_another_version_are_refused(tmp_path):
    path = begun(tmp_path).folder / "suite.json"
    path.write_text(path.read_text().replace('"version": "', '"version": "9.'))
    with pytest.raises(ResultsError, match=r"version '9\..* keep both"):
        begun(tmp_path)


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ResultsError, match="not empty"):
        Results.begin(tmp_path, "smoke", {}, [])
    with pytest.raises(ResultsError, match="prefgym bench run"):
        Results(tmp_path)


def test_results_are_of_one_pool(tmp_path):
    results = begun(tmp_path)
    results.keep_pool("backflip", "a" * 64)
    with pytest.raises(ResultsError, match="another pool of backflip"):
        Results(results.folder).keep_pool("backflip", "b" * 64)


# Pools.


def test_a_pool_is_read_as_it_was_written(tmp_path, pool):
    write_pool(tmp_path / "p.npz", pool)
    first, second = read_pool(tmp_path / "p.npz"), read_pool(tmp_path / "p.npz")
    assert first.checksum == second.checksum
    assert np.array_equal(first.held_out.rewards, pool.held_out.rewards)
    assert [stage for stage, _ in zip(first.stages, first.pairs, strict=True)][::50] == list(STAGES)
    (tmp_path / "p.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match="delete it, and it is made again"):
        read_pool(tmp_path / "p.npz")


def test_stages_are_the_first_that_came_so_far():
    assert stages(0.0, [0.0, 1.0, 4.0, 6.0, 5.0, 10.0]) == [1, 3, 5]
    assert stages(0.0, [0.0, 0.0, 0.0, 10.0]) == [1, 2, 3]  # no two stages are one policy
    with pytest.raises(ValueError, match="better than random actions"):
        stages(0.0, [1.0, -1.0])


def test_a_pool_is_made_of_a_task(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFGYM_CACHE", str(tmp_path))
    for name, value in {"EPISODES": 4, "RECORDED": 4, "WINDOW": 100}.items():
        monkeypatch.setattr(f"prefgym.benchmark.making.{name}", value)
    spec = PoolSpec(steps=17_000, candidates=6, queries=2, snapshots=3)
    told = []
    pool = load_pool(tasks["cheetah-stand"], spec, told.append)
    assert told[-1] == 1.0
    assert told == sorted(told)
    assert pool.candidates.observations.shape[:2] == (24, tasks["cheetah-stand"].segment_length)
    assert len(pool.pairs) == 8
    assert pool.facts["expert_return"] > pool.facts["random_return"]
    assert not set(map(bytes, pool.candidates.observations)) & set(map(bytes, pool.held_out.observations))
    again = load_pool(tasks["cheetah-stand"], spec, lambda share: pytest.fail("made twice"))
    assert again.checksum == pool.checksum


# Teachers.


@pytest.mark.parametrize("name", teachers)
def test_teachers_answer_the_same_whenever_asked(name, pool):
    said = [answers(teacher(pool, name), pool.held_out, pool.pairs) for _ in range(2)]
    assert said[0] == said[1]
    first, second = pool.held_out.rewards.sum(1)[pool.pairs].T
    clear = [(answer.target, better) for answer, better in zip(said[0], first > second, strict=True)
             if answer.target in (0.0, 1.0)]  # fmt: skip
    assert np.mean([target == better for target, better in clear]) > 0.7


def test_the_one_like_people_skips_what_looks_alike_ties_what_is_close_and_slips(pool):
    alike = Standard.of(pool.candidates.rewards.sum(1), lambda first, second: np.zeros(1))
    differ = Standard.of(pool.candidates.rewards.sum(1), lambda first, second: np.full(1, 2.0))
    query = Query(pool.held_out.segment(0), pool.held_out.segment(1))
    assert teachers["human-like"](alike, 0).answer(query) == Answer.SKIP
    said = answers(teachers["human-like"](differ, 0), pool.held_out, pool.pairs)
    first, second = pool.held_out.rewards.sum(1)[pool.pairs].T
    close = abs(first - second) < 0.1 * differ.spread
    assert {answer for answer, near in zip(said, close, strict=True) if near} == {Answer.TIE}
    assert Answer.TIE not in {answer for answer, near in zip(said, close, strict=True) if not near}
    wrong = [answer.target != right for answer, right in zip(said, first > second, strict=True) if answer.target != 0.5]
    assert 0.01 < np.mean(wrong) < 0.25


def test_a_pool_without_differences_has_nothing_to_prefer():
    with pytest.raises(ValueError, match="true returns must differ"):
        Standard.of(np.ones(5))


# Methods: a contract, and what is known about some.


@pytest.mark.parametrize("name", OFFLINE)
def test_methods_keep_the_contract(name, pool):
    if name == "imitation" and PYTHON not in os.environ:
        pytest.skip(f"imitation needs a venv of its own, and {PYTHON} to be its Python")
    method, ask, scores = methods[name](), Asking(pool.candidates, teacher(pool)), []
    scorers = method.fit(view_of(pool, informed=method.informed), ask, BUDGETS, 1)
    for budget in BUDGETS:
        ask.limit = budget
        scorer = next(scorers)
        assert isinstance(scorer, Scorer)
        held = pool.held_out
        scores.append(scorer.returns(held.observations, held.actions))
        assert scores[-1].ndim == 2
        assert scores[-1].shape[1] == len(held)
        rewards = scorer.rewards(held.observations[:, 0], held.actions[:, 0])
        assert rewards.shape == (len(held),)
        assert np.isfinite(scores[-1]).all()
        assert np.isfinite(rewards).all()
    assert ask.asked == (0 if method.informed else BUDGETS[-1])
    assert list(scorers) == []
    again = run_on(methods[name](), pool, teacher(pool), BUDGETS, 1)
    held_answers = answers(teacher(pool), pool.held_out, pool.pairs)
    expected = {(metric, stage): value for metric, stage, value in judge(scorer, pool, held_answers)}
    for metric in {row["metric"] for row in again} - {"seconds"}:  # the same seed comes to the same
        (value,) = [row["value"] for row in again if row["metric"] == metric and row["budget"] == 40][-1:]
        assert value == pytest.approx(expected[metric, "all"])


def test_methods_that_are_not_informed_see_no_truth(pool):
    view = view_of(pool, informed=False)
    assert view.truth is None
    assert not hasattr(view, "rewards")
    assert [name for name in methods if methods[name]().informed] == ["true"]


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("no/such/python", r"PREFGYM_IMITATION to be its Python, got 'no/such/python': .*pip install .*imitation"),
        (sys.executable, r"(?s)imitation failed at 'begin': .*No module named 'imitation'"),
        (shutil.which("true"), r"imitation's process ended at 'begin'"),
    ],
)
def test_a_peer_that_cannot_be_asked_says_what_to_do(python, message, pool, monkeypatch):
    monkeypatch.setenv(PYTHON, python)
    with pytest.raises(PeerError, match=message):
        next(methods["imitation"]().fit(view_of(pool, informed=False), Asking(pool.candidates, teacher(pool)), (5,), 0))


def test_logistic_regression_is_the_best_of_its_kind():
    # Two of three answers are for the larger: the slope 3 σ(w) - 2 and the ridge's w are 0 together.
    weights = regression(np.ones((3, 1)), np.array([1.0, 1.0, 0.0]))
    assert weights == pytest.approx([0.286548], abs=1e-6)


def test_more_than_the_budget_is_refused(pool):
    ask = Asking(pool.candidates, teacher(pool))
    ask.limit = 3
    ask(np.array([[0, 1], [2, 3]]))
    with pytest.raises(ValueError, match="a budget of 3 comparisons allows 1 more, got 2"):
        ask(np.array([[4, 5], [6, 7]]))


def test_the_truth_beats_what_is_learned_and_that_beats_the_baselines(pool):
    budgets, found = (100,), {}
    for name in ("true", "uniform-ensemble", "random-labels", "flipped"):
        found[name] = [figures(pool, name, budgets, seed)[100, "accuracy", "all"] for seed in range(2)]
    assert found["true"] == [1.0] * 2
    assert min(found["uniform-ensemble"]) > 0.8
    assert 0.3 < np.mean(found["random-labels"]) < 0.7
    assert max(found["flipped"]) < 0.25


def test_figures_of_the_truth_are_the_best_there_are(pool):
    found = figures(pool, "true", (1,))
    assert found[1, "correlation", "all"] == pytest.approx(1)
    assert found[1, "spearman", "all"] == pytest.approx(1)
    assert found[1, "epic", "all"] == pytest.approx(0, abs=1e-3)
    assert {stage for _, metric, stage in found if metric == "accuracy"} == {*STAGES, "all"}
    assert figures(pool, "flipped")[40, "epic", "all"] > 0.8


def test_ranks_share_what_is_equal():
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [2.5, 0.0, 2.5, 1.0]
    assert correlation(np.ones(3), np.arange(3.0)) == 0


# The online track.


@pytest.mark.parametrize(
    ("name", "task", "envs", "steps"),
    [
        ("uniform-ensemble", "backflip", 16, 10_300),
        ("uniform-ensemble", "backflip-long", 128, 22_000),  # whose exploration must hold segments of 100 steps
        ("uniform-sac", "backflip", 16, 10_300),
        ("true", "backflip", 16, 10_300),
    ],
)
def test_the_whole_loop_is_run_and_judged(name, task, envs, steps, pool):
    settings = OnlineSettings(envs=envs, sessions=2, episodes=4)
    known = replace(pool, facts={"random_return": -1.0, "expert_return": 1.0})
    found = Trial(tasks[task], methods[name](), teacher(pool), known, settings, 6, 0, steps=steps).run()
    assert {"score", "clean_flips"} <= set(found)
    assert np.isfinite(found["score"])
    assert ("labels_to_80" in found) == (name != "true")


def test_baselines_mishear_the_teacher(pool):
    query = Query(pool.held_out.segment(0), pool.held_out.segment(1))
    said = teacher(pool).answer(query)
    heard = Heard(teacher(pool), methods["flipped"](), 0)
    heard.submit([query])
    assert {heard.collect()[0].answer, said} == {Answer.FIRST, Answer.SECOND}


# Jobs.

ASKED = ["--tracks", "offline", "--teachers", "oracle", "--jobs", "2", "--methods", "linear", "true", "--seeds", "40"]
CELLS = 160  # more than are done before whoever waits for the first one is heard, on the busiest machine


def bench(out):
    """The verb, in a group of its own, with its standard error as a pipe."""
    command = (sys.executable, "-m", "prefgym", "bench", "run", "smoke", "--out", str(out), *ASKED)
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True, env=env)


def first_cell(process):
    """Reads until a cell is reported as done."""
    assert any(line.startswith("offline/") for line in process.stderr)


def test_killed_in_the_middle_every_cell_is_there_once(tmp_path, cached):
    with bench(tmp_path / "r") as process:
        first_cell(process)
        os.killpg(process.pid, signal.SIGKILL)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "r" / "cells").glob("*.csv")}
    assert 1 <= len(before) < CELLS
    results = Results(tmp_path / "r")
    assert len(results.cells) == CELLS
    done = results.finished()
    left = [cell for cell in results.cells if cell not in done][:3]
    computed = []
    hears = Progress(on_cell=lambda cell, error: computed.append((cell, error)))
    assert run_cells([*done, *left], results.folder, jobs=2, progress=hears) == {}
    assert sorted(cell.name for cell, _ in computed) == sorted(cell.name for cell in left)
    assert set(results.finished()) == {*done, *left}
    assert {path: path.stat().st_mtime_ns for path in before} == before
    rows = results.rows()
    assert len({tuple(row[name] for name in COLUMNS[:8]) for row in rows}) == len(rows) == len([*done, *left]) * 3 * 19


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(tmp_path, cached):
    with bench(tmp_path / "r") as process:
        first_cell(process)
        os.killpg(process.pid, signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130
    assert "The same command goes on" in said
    assert "Traceback" not in said
    assert Results(tmp_path / "r").finished()


def test_a_cell_that_fails_is_recorded_and_the_others_go_on(tmp_path, cached, monkeypatch):
    suite = narrowed(suite_of("smoke"), tracks=["offline"], methods=["true", "flipped"], teachers=["oracle"])
    results = Results.begin(tmp_path / "r", "smoke", asdict(suite.settings), suite.cells)
    with monkeypatch.context() as patch:
        patch.setattr("prefgym.benchmark.methods.flipped.Flipped.fit", lambda *_: 1 / 0)
        failed = run_cells(suite.cells, results.folder, jobs=1)
    assert {cell.method for cell in failed} == {"flipped"}
    assert set(results.failed()) == set(failed)
    assert "ZeroDivisionError" in results.failed()[next(iter(failed))]
    assert {cell.method for cell in results.finished()} == {"true"}
    assert run_cells(suite.cells, results.folder, jobs=1) == {}  # tried again
    assert results.failed() == {}


def test_a_task_without_a_pool_fails_alone(tmp_path, cached, monkeypatch):
    pool_path(tasks["backflip"], SUITES["smoke"].settings.pool).write_bytes(b"PK")
    suite = narrowed(suite_of("smoke"), tracks=["offline"], methods=["true"], teachers=["oracle"])
    results = Results.begin(tmp_path / "r", "smoke", asdict(suite.settings), suite.cells)
    failed = run_cells(suite.cells, results.folder, jobs=1)
    assert {cell.task: "is damaged" in error for cell, error in failed.items()} == {"backflip": True}
    assert {cell.task for cell in results.finished()} == {"cheetah-stand"}


def test_work_that_kills_its_process_takes_nothing_with_it():
    fatal = "__import__('os').kill(__import__('os').getpid(), 9)"
    found = dict(locally(eval, ["1 + 1", fatal, "2 + 2", "3 + 3", "1 / 0"], 2))
    assert {item: outcome.value for item, outcome in found.items() if not outcome.error} == {
        "1 + 1": 2, "2 + 2": 4, "3 + 3": 6
    }  # fmt: skip
    assert found[fatal].error == KILLED
    assert "ZeroDivisionError" in found["1 / 0"].error


def test_a_cluster_may_do_the_work(tmp_path, cached):
    suite = narrowed(suite_of("smoke"), tracks=["offline"], methods=["true"], teachers=["oracle"])
    results = Results.begin(tmp_path / "r", "smoke", asdict(suite.settings), suite.cells)
    path, given = pool_path(tasks["backflip"], suite.settings.pool), []
    made = path.read_bytes()
    path.unlink()

    def cluster(work, items):
        given.extend(items)
        pools = [(item, Outcome(made)) for item in items if item == "backflip"]
        return pools or locally(work, items, 1)

    assert run_cells(suite.cells, results.folder, cluster=cluster) == {}
    assert set(given) == {*suite.cells, "backflip"}  # the other pool is here
    assert path.read_bytes() == made
    with pytest.raises(ValueError, match="`jobs` must be at least 1"):
        run_cells([], results.folder, jobs=0)


def test_the_list_says_of_every_part_what_it_is(capsys):
    assert main(["bench", "list"]) == 0
    groups = [group.splitlines()[1:] for group in capsys.readouterr().out.split("\n\n")[1:]]
    said = {line.split()[0]: line.split(maxsplit=1)[1] for lines in groups for line in lines}
    assert set(said) == {*TRACKS, *tasks, *methods, *teachers}
    assert len(set(said.values())) == len(said)
    assert all(len(words) > 20 and "object at" not in words for words in said.values())
