"""The benchmark's report: whole, self-contained, and honest about what was not run."""

import csv
import math
import re
import shutil
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from prefgym.benchmark.cells import Cell, grid
from prefgym.benchmark.figures import Figures
from prefgym.benchmark.overoptimised import panels
from prefgym.benchmark.plots import CURVES, MARKERS, SYMBOLS, Album
from prefgym.benchmark.report import Compared, remarks_on, write_report
from prefgym.benchmark.results import Results, ResultsError
from prefgym.benchmark.standings import reference, standings
from prefgym.benchmark.statistics import Estimate
from prefgym.benchmark.tables import Board, courses, fits, told, trust
from prefgym.benchmark.tidy import METRICS, Metric, Tidy, merged
from prefgym.pages.svg import COLOURS, light, to_svg

CHROMIUM = shutil.which("chromium")
BUDGETS = (25, 100, 400)
SKILL = {"uniform-ensemble": 0.10, "disagreement-ensemble": 0.14, "uniform-single": 0.06, "random-labels": 0.0}
VOID = {"meta", "link", "img", "path", "use", "rect"}
ERROR = "ValueError: `ratio` must be at most 1, got 2 | <b>in the fit</b>"


def rng_of(cell):
    return np.random.default_rng(zlib.crc32(cell.name.encode()))


def offline(cell, skill=None, budgets=BUDGETS):
    """Rows of an offline cell whose accuracy rises with the logarithm of the budget."""
    rng, gain = rng_of(cell), SKILL.get(cell.method, 0.1) if skill is None else skill
    rows = []
    for number, budget in enumerate(budgets, 1):
        known = {"budget": budget, "seconds": 2.5 * number}
        accuracy = 0.5 + gain * number + 0.01 * rng.normal()
        for stage in ("random", "early", "half", "expert", "all"):
            rows.append({**known, "metric": "accuracy", "stage": stage, "value": accuracy})
            rows.append({**known, "metric": "log_likelihood", "stage": stage, "value": accuracy - 1})
        rows += [
            {**known, "metric": name, "stage": "all", "value": value}
            for name, value in (("spearman", 2 * accuracy - 1), ("epic", 1 - accuracy), ("seconds", 2.5 * number))
        ]
    return rows


def online(cell):
    """Rows of an online cell; odd seeds never reach 80 %."""
    score = 0.7 + 0.02 * rng_of(cell).normal()
    told = {"score": score, "clean_flips": 5 * score, "labels_to_80": "" if cell.seed % 2 else 250, "seconds": 60}
    return [{"budget": 400, "metric": name, "stage": "all", "value": told[name], "seconds": 60} for name in told]


def parted(cell):
    """Rows of an over-optimisation cell: best of n as Gao et al. found it, PPO too short to fit."""
    rows = []
    for kl in np.linspace(0, 9, 8):
        gold = 0.2 + kl**0.5 * (0.8 - 0.2 * kl**0.5) + 0.001 * rng_of(cell).normal()
        rows += [("best_of_n", "gold", kl, gold), ("best_of_n", "proxy", kl, 3 * kl**0.5)]
    rows += [("ppo", name, kl, kl) for name in ("gold", "proxy") for kl in (0, 1, 4)]
    names = ("stage", "metric", "kl", "value")
    return [{"budget": 1000, "seconds": 9, **dict(zip(names, row, strict=True))} for row in rows]


ROWS = {"offline": offline, "online": online, "overoptimisation": parted}


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Makes results folders as a suite leaves them behind."""

    def make(cells, rows=None, skip=(), fail=()):
        results = Results.begin(tmp_path_factory.mktemp("results") / "one", "trial", {}, cells)
        for cell in cells:
            if cell.name in fail:
                results.fail(cell, f"Traceback (most recent call last):\n  File …\n{ERROR}\n")
            elif cell.name not in skip:
                results.write(cell, (rows or ROWS[cell.track])(cell))
        return results

    return make


def usual(seeds=3, tasks=("backflip", "hop"), methods=tuple(SKILL), teachers=("oracle",)):
    return grid("offline", tasks, methods, teachers, range(seeds))


class Page(HTMLParser):
    """What a browser would find; raises for tags that do not match."""

    def __init__(self, path):
        super().__init__()
        self.open, self.words, self.references, self.tags = [], [], [], []
        self.source = path.read_text("utf-8")
        self.feed(self.source)
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.references += [value for name, value in attributes if name in ("src", "href", "srcset", "xlink:href")]

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def written(make):
    """The folder and the page of a suite in which everything happened that can."""
    cells = usual(teachers=("oracle", "human-like")) + grid(
        "online", ("backflip",), list(SKILL)[:2], ("oracle",), [0, 1]
    )
    cells += grid("overoptimisation", ("story",), ("ensemble",), ("oracle",), range(2))
    lost = [cell.name for cell in usual(methods=["uniform-single"]) if cell.task == "hop"]
    failed = ["offline/hop/disagreement-ensemble/oracle/1"]
    folder = make(cells, skip=lost, fail=failed).folder
    (folder / "plots").mkdir()
    (folder / "plots" / "old.png").write_text("of an earlier report")
    return folder, Page(write_report(folder))


def test_everything_is_written(written):
    folder, page = written
    with (folder / "results.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) > 1000
    assert not list(folder.glob("*.new"))
    assert "Leaderboard: offline" in page.text
    assert "Leaderboard: online" in page.text
    for part in ("By task", "By stage", "By teacher", "Probability of improvement", "Cost", "How to read it"):
        assert part in page.text


def test_pictures_are_whole_and_of_this_report(written):
    folder, page = written
    paths = sorted((folder / "plots").glob("*"))
    assert len(paths) == page.tags.count("figure") > 10
    for path in paths:
        with Image.open(path) as image:
            image.load()
            assert min(image.size) > 200
            assert np.asarray(image).std() > 5


def test_the_page_needs_nothing_beside_it(written):
    _, page = written
    assert "script" not in page.tags
    assert all(reference.startswith(("#", "data:")) for reference in page.references)
    assert not re.search(r"url\((?!#)", page.source)


def test_the_best_method_comes_first(written):
    _, page = written
    assert "disagreement-ensemble is ahead: 0.78" in page.text
    text = (written[0] / "results.md").read_text()
    order = re.findall(r"^\| ([\d–]+) \| ([\w-]+)", text[: text.index("By number")], re.MULTILINE)
    assert order == [
        ("1", "disagreement-ensemble"),
        ("2", "uniform-ensemble"),
        ("–", "uniform-single"),
        ("–", "random-labels"),
    ]


def test_what_was_not_run_is_said(written):
    folder, page = written
    assert "Of 54 cells 3 were not run and 1 failed" in page.text
    assert "offline hop uniform-single oracle 0, 1, 2" in page.text
    assert ERROR in page.text
    assert "<b>in the fit" not in page.source
    text = (folder / "results.md").read_text()
    assert "| offline | hop | uniform-single | oracle | 0, 1, 2 |" in text
    assert "got 2 \\| <b>" in text
    assert re.search(r"uniform-single \| 0\.\d+ \[.*\] \| not run", text)


def test_over_optimisation_is_fitted_where_that_can_be(written):
    text = (written[0] / "results.md").read_text()
    *told, line = (line for line in text.splitlines() if line.startswith("| story"))
    assert line.startswith("| story | ensemble | best of n | 1000 | 0.80")
    assert re.search(r"\| 1000 \| 0\.80\d \| 0\.20\d \| 1\.00 \| 2\.0", line)
    assert [line.split(" | ")[2] for line in told] == ["best of n", "PPO"]  # also where nothing could be fitted


def test_markdown_tables_have_as_many_cells_as_heads(written):
    counts = []
    for block in (written[0] / "results.md").read_text().split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        counts.append({len(re.findall(r"(?<!\\)\|", line)) for line in lines})
    assert max(map(len, counts)) == 1


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt-get install chromium)")
def test_nothing_sticks_out_of_the_page(written):
    from playwright.sync_api import sync_playwright

    folder, _ = written
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width in (360, 1280):
            page = browser.new_page(viewport={"width": width, "height": 800})
            asked, said = [], []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.on("console", lambda message, said=said: said.append(message.text))
            page.goto((folder / "report.html").as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert [one for one in asked if not one.startswith("data:")] == [(folder / "report.html").as_uri()]
            assert said == []
        browser.close()


def test_one_seed_has_no_intervals(make):
    folder = make(usual(seeds=1, tasks=["hop"])).folder
    page = Page(write_report(folder))
    assert "One seed only (offline): there are no intervals" in page.text
    assert "No method is clearly ahead" in page.text
    assert " [" not in re.sub(r"`.*`", "", (folder / "results.md").read_text())


def test_nothing_finished_is_a_report_too(make):
    cells = usual(seeds=1)
    page = Page(write_report(make(cells, skip=[cell.name for cell in cells]).folder))
    assert "No method has been measured on all tasks yet" in page.text
    assert "Of 8 cells 8 were not run" in page.text
    assert "Nothing at all was measured on backflip (offline), hop (offline)." in page.text


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(ResultsError, match="there are no results in"):
        write_report(tmp_path)


def test_a_report_that_fails_leaves_the_older_one(make, monkeypatch):
    path = make(usual(seeds=1, tasks=["hop"])).folder / "report.html"
    path.write_text("older")

    def fail(*_):
        raise OSError("no space")

    monkeypatch.setattr(Album, "add", fail)
    with pytest.raises(OSError, match="no space"):
        write_report(path.parent)
    assert path.read_text() == "older"


def compared(results):
    tidy = Tidy.read(results)
    (group,) = tidy.groups("offline")
    return Compared.of(tidy, group)


def test_values_that_are_no_numbers_are_left_out_and_counted(make):
    def rows(cell):
        found = offline(cell)
        if cell.seed == 0:
            found[-4]["value"] = math.nan  # log-likelihood, all stages, at the largest budget
        return found

    part = compared(make(usual(), rows))
    assert part.tidy.gaps == 8
    (cells,) = (line for line in part.others["by_metric"].lines if line[0] == "uniform-ensemble")
    there = part.group.on(metric="log_likelihood")
    assert [len(values) for values in part.tidy.at(there, "uniform-ensemble", 400)] == [2, 2]
    assert float(cells[1].split()[0].replace("−", "-")) == pytest.approx(-0.2, abs=0.02)


def test_a_seed_that_lacks_a_budget_is_left_out_of_the_mean_over_budgets(make):
    def rows(cell):
        return offline(cell)[:-13] if cell.seed == 0 else offline(cell)

    part = compared(make(usual(), rows))
    assert [len(values) for values in part.tidy.over_budgets(part.group, "uniform-ensemble")] == [2, 2]
    assert [len(values) for values in part.tidy.at(part.group, "uniform-ensemble", 25)] == [3, 3]


def test_a_baseline_that_wins_is_told_on(make):
    def rows(cell):
        return offline(cell, skill=0.15 if cell.method == "random-labels" else None)

    part = compared(make(usual(tasks=["hop"]), rows))
    (remark,) = remarks_on(part.tidy, [part])
    assert remark.startswith("The baseline random-labels must lose, and beats uniform-ensemble with probability 1.00")


def test_tasks_of_other_budgets_are_not_pooled(make):
    def rows(cell):
        return offline(cell, budgets=(125, 8000) if cell.task == "story" else BUDGETS)

    tidy = Tidy.read(make(usual(tasks=("backflip", "hop", "story")), rows))
    groups = {group.tasks: group.budgets for group in tidy.groups("offline")}
    assert groups == {("backflip", "hop"): BUDGETS, ("story",): (125, 8000)}


def test_comparisons_until_a_level_are_told_as_far_as_the_budgets_go(make):
    methods = {"uniform-ensemble": 0.1, "uniform-single": 0.02, "uniform-surf": 0.4}
    part = compared(make(usual(methods=list(methods)), lambda cell: offline(cell, skill=methods[cell.method])))
    needed = {line[1]: line[4] for line in part.main.lines}
    assert needed["uniform-single"] == "> 400"
    assert needed["uniform-surf"] == "≤ 25"
    assert 300 < float(needed["uniform-ensemble"].split()[0]) <= 400


def test_what_was_never_reached_counts_as_more_than_was_asked(make):
    tidy = Tidy.read(make(grid("online", ["backflip"], ["uniform-ensemble"], ["oracle"], range(3))))
    (group,) = tidy.groups("online")
    (values,) = tidy.at(group.on(metric="labels_to_80"), "uniform-ensemble", 400)
    assert sorted(values) == [250, 250, math.inf]
    ((_, _, cell),) = Compared.of(tidy, group).others["by_metric"].lines
    assert cell == "> 400 [250, > 400]"
    assert tidy.gaps == 0


def test_seconds_count_on_offline_and_begin_anew_online(make):
    cells = [
        Cell("offline", "hop", "uniform-single", "oracle", 0),
        Cell("online", "hop", "uniform-single", "oracle", 0),
    ]
    assert Tidy.read(make(cells)).seconds == 7.5 + 60


def test_a_failure_that_was_made_good_is_forgotten(make):
    cell = Cell("offline", "hop", "uniform-single", "oracle", 0)
    results = make([cell], fail=[cell.name])
    assert Tidy.read(results).failed == {cell: ERROR}
    results.write(cell, offline(cell))
    assert Tidy.read(results).failed == {}


def test_the_reference_is_a_method_that_has_every_task(make):
    cells = usual(tasks=("backflip", "hop"), methods=("uniform-ensemble", "uniform-single"))
    tidy = Tidy.read(make(cells, skip=[cell.name for cell in cells if cell.name.startswith("offline/hop/uniform-ens")]))
    (group,) = tidy.groups("offline")
    assert reference(tidy, group) == "uniform-single"
    assert {one.method: one.rank for one in standings(tidy, group)} == {"uniform-single": 1, "uniform-ensemble": None}


def test_no_figure_has_more_curves_than_can_be_told_apart(make, tmp_path):
    part = compared(make(usual(seeds=2, tasks=["hop"], methods=[f"method-{number:02d}" for number in range(12)])))
    figures = Figures(part.tidy, part.group, part.found, part.versus, Album(tmp_path))
    assert len({(look.colour, look.marker) for look in figures.looks.values()}) == len(figures.looks) == CURVES
    assert len(MARKERS) == len(SYMBOLS) == CURVES
    assert list(figures.looks) == sorted(one.method for one in part.ranked[:CURVES])


def test_other_versions_are_told(make):
    results = make(usual(seeds=1, tasks=["hop"]))
    path = sorted((results.folder / "cells").glob("*.csv"))[0]
    path.write_text(path.read_text().replace(",0.1.0,", ",0.0.9,"))
    assert "The cells were run with more than one version: 0.0.9; 0.1.0." in remarks_on(Tidy.read(results), [])


@pytest.mark.parametrize(
    ("value", "low", "high", "decimals", "text"),
    [
        (0.8421, 0.8, 0.9, 3, "0.842 [0.800, 0.900]"),
        (-0.0001, math.nan, math.nan, 2, "0.00"),
        (-1.5, -2, -1, 1, "−1.5 [−2.0, −1.0]"),
        (1234.5, 1200, math.inf, 1, "1,234 [1,200, ∞]"),
        (math.nan, math.nan, math.nan, 3, "–"),
    ],
)
def test_estimates_are_written_shortly(value, low, high, decimals, text):
    assert told(Estimate(value, low, high), Metric("", decimals=decimals)) == text


def test_cells_that_differ_by_seed_are_one_line():
    cells = [Cell("offline", "hop", "a", "oracle", seed) for seed in (10, 2)] + [
        Cell("online", "hop", "a", "oracle", 0)
    ]
    assert merged(cells) == [("offline", "hop", "a", "oracle", "2, 10"), ("online", "hop", "a", "oracle", "0")]


def test_words_in_tables_are_escaped():
    board = Board("A", "B", ["method", "x"], [["<i>", "1 [0, 2]"], ["a | b", "–"]])
    assert '<td class="word name">&lt;i&gt;</td><td>1<small>0, 2</small></td>' in board.html()
    assert "| a \\| b | – |" in board.markdown()


def test_panels_leave_out_what_has_no_distance():
    row = {"track": "overoptimisation", "task": "story", "method": "a", "teacher": "oracle", "seed": "0"}
    row |= {"budget": "100", "metric": "gold", "stage": "ppo", "kl": "", "value": "1"}
    assert panels([row, {**row, "kl": "1", "value": "nan"}, {**row, "stage": "other", "kl": "1"}]) == []
    (panel,) = panels([{**row, "kl": "4"}])
    assert panel.courses[0].points("gold") == (pytest.approx([2]), pytest.approx([1]))


def test_what_optimising_came_to_is_of_each_seed_by_distance():
    row = {"track": "overoptimisation", "task": "story", "method": "a", "teacher": "oracle"}
    row |= {"budget": "100", "metric": "gold", "stage": "ppo"}
    runs = {"0": {"9": "0.5", "0": "0.25", "4": "1"}, "1": {"0": "0.25", "1": "0.5", "2": "0"}}
    rows = [{**row, "seed": seed, "kl": kl, "value": gold} for seed, run in runs.items() for kl, gold in run.items()]
    board = courses(panels(rows))
    cells = ["0.250 [0.250, 0.250]", "0.750 [0.500, 1.000]", "0.250 [0.000, 0.500]", "3.0"]
    assert board.lines == [["story", "a", "PPO", "100", *cells]]
    lost = "0.500 [0.500, 0.500]"
    assert trust(panels(rows)).lines == [["PPO", "a", "100", "0.000 [−0.250, 0.250]", lost, "2", "1"]]
    erring = panels([{**one, "teacher": "mistaken"} for one in rows] + rows)
    assert [line[1] for line in trust(erring).lines] == ["a", "a, mistaken"]
    assert courses([]) is trust([]) is None


def test_a_peak_that_may_lie_beyond_what_was_measured_says_so():
    row = {"track": "overoptimisation", "task": "story", "method": "a", "teacher": "oracle"}
    row |= {"budget": "100", "metric": "gold", "stage": "best_of_n"}

    def line(*tops):  # each seed's gold is the parabola d (2 top - d), measured up to d = 3
        rows = [
            {**row, "seed": str(seed), "kl": str(d * d), "value": str(d * (2 * top - d))}
            for seed, top in enumerate(tops)
            for d in (0, 1, 2, 3)
        ]
        (only,) = fits(panels(rows)).lines
        return only[4:]

    assert line(1, 1) == ["2.000", "1.000", "1.00", "1.00 [1.00, 1.00]", "1.00"]
    assert line(1, 1, 1, 1, 5)[3:] == ["1.80 [1.00, ∞]", "3.24"]
    assert line(9)[3:] == ["beyond 3.00", "–"]


def test_results_of_optimising_alone_have_a_headline(make):
    page = Page(write_report(make(grid("overoptimisation", ("story",), ("ensemble", "a"), ("oracle",), [0])).folder))
    assert "How far 2 kinds of reward model can be trusted" in page.text
    assert "at the farthest" in page.text


def test_every_metric_has_its_sides():
    assert {name for name, one in METRICS.items() if one.better < 0} == {"ece", "epic", "labels_to_80", "seconds"}


def test_pages_have_the_colours_of_figures():
    assert set(COLOURS.values()) <= set(light())
    assert len({light()[f"series-{number}"] for number in range(1, 9)}) == 8


def test_letters_of_a_figure_are_left_as_they_are():
    figure = Figure()
    figure.add_subplot().set_title("0.8251 at #011111")
    svg = to_svg(figure)
    assert ">0.8251 at" in svg
    assert not re.search(r'd="[^"]*\.\d{3}', svg)
