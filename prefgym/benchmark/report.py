"""The report of a benchmark: one HTML page that needs nothing beside it, PNG pictures, Markdown tables, one CSV.

`tidy` reads the results, `statistics` reckons, `standings` orders, `tables` and `figures` show; here is the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from prefgym.benchmark import tables
from prefgym.benchmark.figures import Figures
from prefgym.benchmark.overoptimised import Panel, panels
from prefgym.benchmark.plots import Album, Look, parting
from prefgym.benchmark.results import Results
from prefgym.benchmark.standings import Standing, reference, standings
from prefgym.benchmark.tables import Board
from prefgym.benchmark.tidy import BASELINES, MAIN, Group, Tidy, metric
from prefgym.pages import whole, write_whole
from prefgym.pages.markup import card, duration, grid

REPORT, TABLES, PICTURES = "report.html", "results.md", "plots"

READING = (
    "A cell is one method on one task under one teacher with one seed. Curves and tables give the interquartile mean "
    "over seeds and tasks: the best and the worst quarter of the runs are left out, so that one lucky or one broken "
    "run decides nothing. Bands, bars and brackets hold 95 % of what that mean would be with other seeds on the same "
    "tasks (stratified bootstrap, Agarwal et al. 2021). They say nothing of other tasks, and with fewer than about "
    "ten seeds they are too narrow.",
    "Intervals that overlap do not make two methods equal: the probability of improvement compares them run by run; "
    "0.5 is a coin. Among many methods, the first is partly lucky. Accuracy, correlations and EPIC are about the "
    "hidden true reward, log-likelihood and calibration about what the teacher answers; all of them about segments "
    "that no method has seen. Of the baselines, those that must lose tell whether the figures can be trusted.",
)


def write_report(folder: str | Path) -> Path:
    """Writes results.csv, results.md, plots/*.png and report.html into a results folder, finished or not.

    Returns:
        The path of report.html.

    Raises:
        ResultsError: the folder holds no results, or damaged ones.
        OSError: something cannot be written; an older report is kept.
    """
    results = Results(folder)
    results.collect()
    tidy, album = Tidy.read(results), Album(results.folder / PICTURES)
    for path in album.folder.glob("*.png"):
        path.unlink()
    parts = [Compared.of(tidy, group) for track in MAIN for group in tidy.groups(track)]
    optimised, lacking = panels(tidy.rows), tables.not_run(tidy)
    title = headline(parts, optimised)
    remarks = remarks_on(tidy, parts)
    write_whole(results.folder / TABLES, _markdown(title, remarks, parts, [*_boards(optimised), *lacking]))
    body = [_opening(tidy, title, remarks), *(_compared(part, album) for part in parts), _optimised(optimised, album)]
    body += [_section(board.title, board.told, board.html()) for board in lacking]
    style = files(__package__).joinpath("report.css").read_text("utf-8")
    return write_whole(results.folder / REPORT, whole(f"{title} · prefgym", body, style))


class Compared:
    """The methods of one group of tasks, with all their tables.

    Attributes:
        tidy: the results.
        group: the tasks.
        versus: the method that others are compared with.
        found: the methods in their order.
        main: the leaderboard.
        others: the tables below it, by name; None for those without a figure.
    """

    def __init__(self, tidy: Tidy, group: Group, versus: str, found: Sequence[Standing]) -> None:
        self.tidy, self.group, self.versus, self.found = tidy, group, versus, found
        self.main = tables.leaderboard(found, group, versus)
        self.others = {
            "by_budget": tables.by_budget(tidy, group),
            "by_pair": tables.by_pair(tidy, group, found),
            "by_task": tables.by_task(tidy, group),
            "by_stage": tables.by_stage(tidy, group),
            "by_metric": tables.by_metric(tidy, group),
            "by_teacher": tables.by_teacher(tidy, group),
            "by_cost": tables.by_cost(tidy, group),
        }

    @classmethod
    def of(cls, tidy: Tidy, group: Group) -> Compared:
        """Compares them."""
        return cls(tidy, group, reference(tidy, group), standings(tidy, group))

    def markdown(self) -> str:
        """All tables."""
        return "\n".join([self.main.markdown(), *(one.markdown("###") for one in self.others.values() if one)])

    @property
    def ranked(self) -> list[Standing]:
        """The methods that take a rank."""
        return [one for one in self.found if one.rank is not None]


def headline(parts: Sequence[Compared], optimised: Sequence[Panel] = ()) -> str:
    """The report in one line."""
    if optimised and not parts:
        return f"How far {len({panel.method for panel in optimised})} kinds of reward model can be trusted"
    ranked = parts[0].ranked if parts else []
    if not ranked:
        return "No method has been measured on all tasks yet"
    part, first = parts[0], ranked[0]
    kind = metric(part.group.series.metric)
    value = f"{tables.told(first.score, kind).partition(' [')[0]} {kind.title} over {_span(part.group)} comparisons"
    ahead = all(
        tables.signed_improvement(part.tidy, part.group, first.method, one.method).low > 0.5 for one in ranked[1:]
    )
    if len(ranked) == 1:
        return f"{first.method}: {value}"
    return f"{first.method} is ahead: {value}" if ahead else f"No method is clearly ahead; {first.method}: {value}"


def _span(group: Group) -> str:
    low, high = group.budgets[0], group.budgets[-1]
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def remarks_on(tidy: Tidy, parts: Sequence[Compared]) -> list[str]:
    """What a reader must know before they believe the figures."""
    found = [_lacking(tidy), _without_figures(tidy, parts)]
    if tidy.gaps:
        found.append(f"{tidy.gaps:,} values are not numbers, and were left out.")
    lone = [track for track in MAIN if len(tidy.names("seed", track=track)) == 1]
    if lone:
        found.append(
            f"One seed only ({', '.join(lone)}): there are no intervals, and nothing tells a method from luck."
        )
    several = {name: told for name in ("version", "commit", "machine") if len(told := tidy.facts(name)) > 1}
    found += [f"The cells were run with more than one {name}: {'; '.join(told)}." for name, told in several.items()]
    found += [_undefeated(part, one) for part in parts for one in part.found]
    return [remark for remark in found if remark]


def _lacking(tidy: Tidy) -> str:
    missing, failed = len(tidy.missing), len(tidy.failed)
    if not missing and not failed:
        return ""
    return (
        f"Of {len(tidy.wanted):,} cells {missing:,} were not run and {failed:,} failed: they are listed at the end. A "
        "method that lacks seeds is pooled with those it has; one that lacks a task takes no rank."
    )


def _without_figures(tidy: Tidy, parts: Sequence[Compared]) -> str:
    seen = {(part.group.series.track, task) for part in parts for task in part.group.tasks}
    wanted = {(cell.track, cell.task) for cell in tidy.wanted if cell.track in MAIN}
    lost = sorted(f"{task} ({track})" for track, task in wanted - seen)
    return f"Nothing at all was measured on {', '.join(lost)}." if lost else ""


def _undefeated(part: Compared, one: Standing) -> str:
    if BASELINES.get(one.method) != "must lose" or not one.better.value >= 0.5:
        return ""
    return (
        f"The baseline {one.method} must lose, and beats {part.versus} with probability {one.better.value:.2f} "
        f"({part.group.series.track}, {', '.join(part.group.tasks)}): do not believe these figures."
    )


def _opening(tidy: Tidy, title: str, remarks: Sequence[str]) -> str:
    suite = str(tidy.suite.get("suite", ""))
    listed = "".join(f"<li>{escape(remark)}</li>" for remark in remarks)
    read = "".join(f'<p class="quiet">{escape(paragraph)}</p>' for paragraph in READING)
    return (
        f'<header class="hero alone"><div><p class="kicker">prefgym bench · {escape(suite)}</p><h1>{escape(title)}</h1>'
        f"</div></header>{f'<ul class=remarks>{listed}</ul>' if listed else ''}{_cards(tidy)}"
        f"<section><h2>How to read it</h2>{read}</section>"
    )


def _cards(tidy: Tidy) -> str:
    done, wanted = len(tidy.done), len(tidy.wanted)
    cards = [card("cells", f"{done:,}" if done == wanted else f"{done:,} of {wanted:,}")]
    cards += [card(f"{name}s", str(len(tidy.names(name)))) for name in ("task", "method", "teacher", "seed")]
    cards.append(card("time of one thread", duration(tidy.seconds)))
    facts = {name: "; ".join(tidy.facts(name)) for name in ("version", "commit", "machine")}
    told = ", ".join(f"{name} {value}" for name, value in facts.items() if value)
    return f'<dl class="figures">{"".join(cards)}</dl><p class="quiet provenance">{escape(told)}</p>'


def _compared(part: Compared, album: Album) -> str:
    """The tables and figures of one group of tasks, the most important first."""
    figures = Figures(part.tidy, part.group, part.found, part.versus, album)
    drawn = {"by_budget": figures.pooled(), "by_task": figures.tasks(), "by_stage": figures.stages()}
    drawn["by_cost"] = figures.cost()
    pieces = [_section(part.main.title, part.main.told, part.main.html())]
    for name, board in part.others.items():
        pictures = drawn.get(name, "")
        if board is not None:
            table = _folded(board) if pictures or name == "by_pair" else board.html()
            pieces.append(_section(board.title, board.told, pictures + table, level=3))
    return "".join(pieces)


def _boards(found: Sequence[Panel]) -> list[Board | None]:
    return [tables.trust(found), tables.courses(found), tables.fits(found)]


def _optimised(found: Sequence[Panel], album: Album) -> str:
    figures = []
    for panel in found:
        keys = [Look(place).key(f"{course.budget:g} comparisons") for place, course in enumerate(panel.courses)]
        alt = f"{panel.title}: gold and proxy over √KL"
        figures.append(album.add(panel.name, panel.title, alt, parting(panel), keys, height=3.6))
    told = (
        "How the true reward (gold) and the learned one (proxy) go as a policy moves away from where it began, for "
        "reward models from few and from many comparisons. Dots are runs, lines are fits, or means where there is none."
    )
    below = [f'<p class="quiet">{escape(board.told)}</p>{board.html()}' for board in _boards(found) if board]
    return _section("Over-optimisation", told, grid(figures) + "".join(below)) if figures else ""


def _section(title: str, told: str, content: str, level: int = 2) -> str:
    heading = f"<h{level}>{escape(title)}</h{level}>"
    return f'<section>{heading}<p class="quiet">{escape(told)}</p>{content}</section>'


def _folded(board: Board) -> str:
    return f"<details><summary>As a table</summary>{board.html()}</details>"


def _markdown(title: str, remarks: Sequence[str], parts: Sequence[Compared], boards: Sequence[Board | None]) -> str:
    told = [f"# {title}", "\n".join(f"- {remark}" for remark in remarks), *READING]
    shown = [part.markdown() for part in parts] + [board.markdown() for board in boards if board is not None]
    return "\n\n".join([*filter(None, told), "\n".join(shown)])
