"""The tables of a benchmark's report: who is ahead, where, at what cost, and what was not run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from prefgym.benchmark.overoptimised import FORMS, Course, Panel
from prefgym.benchmark.standings import LEVEL, Standing, methods_of, signed_improvement, whole
from prefgym.benchmark.statistics import Estimate, estimate
from prefgym.benchmark.tidy import BASELINES, METRICS, NEVER, STAGES, Group, Metric, Tidy, merged, metric

NONE = "–"
WORDS = ("method", "track", "task", "teacher", "by", "seeds", "what it said")
"""Columns without numbers to be compared."""

LONG = 60
"""Letters from which on a cell may be broken into lines."""

OTHERS = ("log_likelihood", "ece", "correlation", "spearman", "epic")


@dataclass(frozen=True)
class Board:
    """A table.

    Attributes:
        title: its heading.
        told: what it shows, in a sentence or two.
        head: names of the columns, the first that of the lines.
        lines: the cells.
    """

    title: str
    told: str
    head: Sequence[str]
    lines: Sequence[Sequence[str]]

    def markdown(self, level: str = "##") -> str:
        """Heading, sentence and table."""
        return f"{level} {self.title}\n\n{self.told}\n\n{markdown(self.head, self.lines)}\n"

    def html(self) -> str:
        """A table that scrolls sideways where it is wider than the page; an interval is set below its value."""
        kinds = ["word" * (one in WORDS) for one in self.head]
        if "method" in self.head[:2]:
            kinds[self.head.index("method")] += " name"  # it stays in sight
        head = "".join(f'<th class="{kind}">{escape(one)}</th>' for kind, one in zip(kinds, self.head, strict=True))
        lines = ["".join(map(_html_cell, kinds, line)) for line in self.lines]
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return f'<div class="board" tabindex="0">{table}</div>'


def markdown(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    cells = [head, ["---"] * len(head), *([str(cell).replace("|", "\\|") for cell in line] for line in lines)]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)


def told(found: Estimate, kind: Metric) -> str:
    """An estimate such as 0.842 [0.830, 0.853]; without its interval where it has none."""
    if not found:
        return NONE
    value, low, high = (_written(one, kind.decimals) for one in (found.value, found.low, found.high))
    return value if math.isnan(found.low) else f"{value} [{low}, {high}]"


def _written(number: float, decimals: int) -> str:
    if math.isinf(number):
        return "∞" if number > 0 else "−∞"
    decimals = decimals if abs(number) < 100 else 0
    return f"{round(number, decimals) + 0.0:,.{decimals}f}".replace("-", "−")


def _html_cell(kind: str, cell: str) -> str:
    if "word" in kind:
        return f'<td class="{kind}">{f"<div>{escape(cell)}</div>" if len(cell) > LONG else escape(cell)}</td>'
    value, bracket, rest = cell.partition(" [")
    below = f"<small>{escape(rest.removesuffix(']'))}</small>" if bracket else ""
    return f"<td>{escape(value)}{below}</td>"


def leaderboard(found: Sequence[Standing], group: Group, versus: str) -> Board:
    """The methods in their order."""
    kind = metric(group.series.metric)
    several = len(group.budgets) > 1
    scores = ["over budgets", f"at {group.budgets[-1]:g}", f"comparisons to {LEVEL:g}"] if several else ["score"]
    head = ["", "method", *scores, f"P(beats {versus})", "seconds", "cells"]
    lines = [_line(one, kind, group) for one in found]
    spoken = (
        f"{kind.name}; teacher: {group.series.teacher}; tasks: {', '.join(group.tasks)}; after {listed(group.budgets)} "
        f"comparisons{', whose mean decides the order' if several else ''}. Methods that lack a task, and baselines, "
        "take no rank."
    )
    return Board(f"Leaderboard: {group.series.track}", spoken, head, lines)


def _line(one: Standing, kind: Metric, group: Group) -> list[str]:
    name = f"{one.method} ({BASELINES[one.method]})" if one.method in BASELINES else one.method
    needed = _needed(one.needed, group.budgets)
    cells = f"{one.done} of {one.wanted}" if one.done < one.wanted else str(one.done)
    figures = [told(one.score, kind), told(one.final, kind), needed][: 3 if len(group.budgets) > 1 else 1]
    figures += [told(one.better, Metric("", decimals=2)), told(one.seconds, METRICS["seconds"]), cells]
    return [str(one.rank or NONE), name, *figures]


def _needed(found: Estimate, budgets: Sequence[float]) -> str:
    """Comparisons until the level is reached, as far as the budgets tell."""
    if found.value <= budgets[0]:
        return f"≤ {budgets[0]:g}"
    beyond = f"> {budgets[-1]:g}"
    return beyond if math.isinf(found.value) else told(found, Metric("", decimals=0)).replace("∞", beyond)


def across(
    title: str, spoken: str, methods: Iterable[str], columns: Mapping[str, Callable[[str], str]]
) -> Board | None:
    """A table of methods by columns; columns without a figure are left out, and so is a table without one."""
    names = list(methods)
    cells = {head: [tell(name) for name in names] for head, tell in columns.items()}
    kept = {head: column for head, column in cells.items() if any(cell != NONE for cell in column)}
    lines = [[name, *(column[place] for column in kept.values())] for place, name in enumerate(names)]
    return Board(title, spoken, ["method", *kept], lines) if kept else None


def by_budget(tidy: Tidy, group: Group) -> Board | None:
    """The figures behind the pooled curves."""
    kind = metric(group.series.metric)
    columns = {f"{one:g}": lambda name, one=one: told(whole(tidy.at(group, name, one)), kind) for one in group.budgets}
    spoken = f"{kind.name}, pooled over {', '.join(group.tasks)}."
    return across("By number of comparisons", spoken, methods_of(tidy, group), columns)


def by_task(tidy: Tidy, group: Group) -> Board | None:
    """The main metric on each task."""
    kind = metric(group.series.metric)

    def cell(name: str, task: str) -> str:
        one = Group(group.series, (task,), group.budgets)
        found = whole(tidy.over_budgets(one, name))
        done, wanted = tidy.count(one, name)
        return told(found, kind) if found or done or not wanted else "failed" if _failed(tidy, one, name) else "not run"

    columns = {task: lambda name, task=task: cell(name, task) for task in group.tasks}
    spoken = f"{kind.name}, averaged over the budgets, task by task."
    return across("By task", spoken, methods_of(tidy, group), columns)


def _failed(tidy: Tidy, group: Group, method: str) -> bool:
    series = group.series
    lost = {(cell.track, cell.teacher, cell.method, cell.task) for cell in tidy.failed}
    return any((series.track, series.teacher, method, task) in lost for task in group.tasks)


def by_stage(tidy: Tidy, group: Group) -> Board | None:
    """Accuracy on held-out queries by the stage of the behaviour that made their segments."""
    kind, last = metric(group.series.metric), group.budgets[-1]
    stages = {stage: group.on(stage=stage) for stage in STAGES}
    columns = {
        stage: lambda name, one=one: told(whole(tidy.at(one, name, last)), kind) for stage, one in stages.items()
    }
    spoken = f"{kind.name} after {last:g} comparisons, by the stage of the behaviour that made the segments."
    return across("By stage of the behaviour", spoken, methods_of(tidy, group), columns)


def by_metric(tidy: Tidy, group: Group) -> Board | None:
    """Everything else that was measured, at the largest budget."""
    last = group.budgets[-1]
    others = OTHERS if group.series.track == "offline" else ("clean_flips", NEVER)
    columns = {metric(name).title: lambda method, name=name: _other(tidy, group, method, name) for name in others}
    spoken = (
        f"After {last:g} comparisons. EPIC is taken on held-out steps, where no impossible transition is scored (which "
        "is DARD's objection to it), and says nothing of a policy that goes on to exploit the reward. Of ECE and EPIC "
        "less is better."
        if group.series.track == "offline"
        else f"After {last:g} comparisons."
    )
    return across("Other figures", spoken, methods_of(tidy, group), columns)


def _other(tidy: Tidy, group: Group, method: str, name: str) -> str:
    """A metric at the largest budget, or without one; over the tasks that have it, since some metrics are a task's."""
    there = group.on(metric=name)
    strata = [
        one if len(one) else other
        for one, other in zip(tidy.at(there, method, group.budgets[-1]), tidy.at(there, method, None), strict=True)
    ]
    found = told(estimate(strata) if group.series.track == "online" else whole(strata), metric(name))
    return found.replace("∞", f"> {group.budgets[-1]:g}")


def by_teacher(tidy: Tidy, group: Group) -> Board | None:
    """The main metric under every teacher; nothing if there was only one."""
    teachers = tidy.names("teacher", track=group.series.track)
    kind = metric(group.series.metric)
    columns = {
        one: lambda name, one=one: told(whole(tidy.over_budgets(group.on(teacher=one), name)), kind) for one in teachers
    }
    spoken = f"{kind.name}, averaged over the budgets, by who answered."
    methods = tidy.names("method", track=group.series.track)
    return across("By teacher", spoken, methods, columns) if len(teachers) > 1 else None


def by_pair(tidy: Tidy, group: Group, found: Sequence[Standing]) -> Board | None:
    """How probable it is that the method of a line beats that of a column."""
    names = [one.method for one in found if one.rank is not None]

    def cell(name: str, other: str) -> str:
        return NONE if name == other else told(signed_improvement(tidy, group, name, other), Metric("", decimals=2))

    columns = {other: lambda name, other=other: cell(name, other) for other in names}
    spoken = (
        "How probable it is that a run of the line's method beats a run of the column's on the same task; 0.5 is a "
        "coin, and an interval that holds 0.5 leaves the matter open."
    )
    return across("Probability of improvement", spoken, names, columns) if len(names) > 1 else None


def by_cost(tidy: Tidy, group: Group) -> Board | None:
    """Seconds that a cell took up to each budget."""
    there = group.on(metric="seconds")
    kind = METRICS["seconds"]
    columns = {f"{one:g}": lambda name, one=one: told(whole(tidy.at(there, name, one)), kind) for one in group.budgets}
    did = "to choose and to fit" if group.series.track == "offline" else "for a whole run"
    spoken = f"Seconds of one thread {did}, by the number of comparisons, pooled over the tasks."
    return across("Cost", spoken, methods_of(tidy, group), columns)


def not_run(tidy: Tidy) -> list[Board]:
    """What the figures lack: cells that were not run, and those that failed."""
    boards = []
    head = ["track", "task", "method", "teacher", "seeds"]
    if tidy.missing:
        spoken = f"{len(tidy.missing)} of {len(tidy.wanted)} cells of the suite have neither figures nor a traceback."
        boards.append(Board("Not run", spoken, head, merged(tidy.missing)))
    if tidy.failed:
        lines = [[*cell.name.split("/"), told_] for cell, told_ in sorted(tidy.failed.items())]
        spoken = "The whole tracebacks are in the folder failed/. The command that ran the suite tries them again."
        boards.append(Board("Failed", spoken, [*head[:4], "seed", "what it said"], lines))
    return boards


def listed(values: Iterable[float]) -> str:
    """Such as 25, 50 and 100."""
    words = [f"{value:g}" for value in values]
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def trust(found: Sequence[Panel]) -> Board | None:
    """What gold gained by optimising, and lost again, over all tasks."""
    kept: dict[tuple[str, str, float], list[Course]] = {}
    for panel in found:
        for course in panel.courses:
            if course.runs:
                kept.setdefault((panel.form, panel.model, course.budget), []).append(course)
    head = ["by", "method", "comparisons", "gained", "lost since the best", "runs", "below where they began"]
    spoken = (
        "Gold at the farthest from where optimising began, more than there; and less than at its best on the way. "
        "Interquartile means over tasks and seeds."
    )
    lines = [_trust_line(*key, kept[key]) for key in sorted(kept)]
    return Board("How far they can be trusted", spoken, head, lines) if lines else None


def _trust_line(form: str, method: str, budget: float, found: Sequence[Course]) -> list[str]:
    gained = [course.of_runs(lambda gold: gold[-1] - gold[0]) for course in found]
    lost = [course.of_runs(lambda gold: max(gold) - gold[-1]) for course in found]
    figures = [told(estimate(strata), Metric("")) for strata in (gained, lost)]
    counts = [str(sum(len(one) for one in gained)), str(sum(int((one < 0).sum()) for one in gained))]
    return [FORMS[form], method, f"{budget:g}", *figures, *counts]


def courses(found: Iterable[Panel]) -> Board | None:
    """What gold came to where optimising began, at its best, and at its farthest."""
    lines = [_course_line(panel, course) for panel in found for course in panel.courses if course.runs]
    head = ["task", "method", "by", "comparisons", "gold at first", "at its best", "at the farthest", "√KL there"]
    spoken = (
        "The true reward of the first policy, of the best on the way (which only the truth could pick), and of the "
        "farthest away: interquartile means over seeds. A reward that can be trusted is as good at the farthest as at "
        "its best."
    )
    return Board("What optimising came to", spoken, head, lines) if lines else None


def _course_line(panel: Panel, course: Course) -> list[str]:
    places = (lambda gold: gold[0], max, lambda gold: gold[-1])
    figures = [told(estimate([course.of_runs(place)]), Metric("")) for place in places]
    farthest = f"{course.points('gold')[0].max():.1f}"
    return [panel.task, panel.model, FORMS[panel.form], f"{course.budget:g}", *figures, farthest]


def fits(found: Iterable[Panel]) -> Board | None:
    """The forms of Gao et al. 2022 as they were fitted to gold."""
    lines = [_fit_line(panel, course) for panel in found for course in panel.courses if course.fit is not None]
    head = ["task", "method", "by", "comparisons", "α", "β", "R²", "best at √KL", "gold there, more"]
    spoken = (
        "Gold over d = √KL, from its fitted value at d = 0: best of n, R = d (α − β d); PPO, R = d (α − β log d) (Gao "
        "et al. 2022). Least squares over the runs of all seeds, which are resampled for the interval; ∞ is beyond what"
        " was measured."
    )
    return Board("Over-optimisation", spoken, head, lines) if lines else None


def _fit_line(panel: Panel, course: Course) -> list[str]:
    fit, two, three = course.fit, Metric("", decimals=2), Metric("")
    assert fit is not None
    farthest = course.points("gold")[0].max()
    low, high = (math.inf if end > farthest else end for end in course.peak)
    peak = told(Estimate(fit.peak, low, high), two) if fit.peak <= farthest else f"beyond {farthest:.2f}"
    gain = told(Estimate(float(fit(fit.peak)) - fit.start), two) if fit.peak <= farthest else NONE
    figures = [told(Estimate(value), three) for value in (fit.alpha, fit.beta)] + [told(Estimate(fit.explained), two)]
    return [panel.task, panel.model, FORMS[panel.form], f"{course.budget:g}", *figures, peak, gain]
