"""The top of a report: the run in one line, the robot, the key figures, and what to know before believing them."""

from __future__ import annotations

import math
from html import escape

from prefgym.pages.markup import card, duration, signed
from prefgym.scripts.report import pictures
from prefgym.scripts.report.summary import Summary

FINAL = {"clean_backflips": "clean backflips", "revolutions": "revolutions backward", "true_return": "true return"}
COUNTS = {"labels": "comparisons", "steps": "env steps"}
SETTINGS = {"teacher": "teacher", "query": "query strategy", "seed": "seed", "prefgym": "prefgym", "torch": "torch"}


def headline(summary: Summary, seconds: float | None = None) -> str:
    """The run in one line; `seconds` is how long an episode is, if that is known."""
    flips, labels = summary.figure("clean_backflips"), summary.last("labels")
    taught = f"from {labels:,.0f} comparisons" if labels > 0 else "without comparisons"
    if not math.isfinite(flips):
        return f"A run of {summary.env_id}, {taught}"
    if round(flips, 1) == 0:
        return f"No clean backflip yet, {taught}"
    span = f"in {seconds:.2g} seconds" if seconds else "an episode"
    return f"{flips:.1f} clean backflip{'' if f'{flips:.1f}' == '1.0' else 's'} {span}, {taught}"


def opening(summary: Summary, title: str) -> str:
    """The headline `title`, what happened in a few sentences, the animation, the key figures, the remarks."""
    seed = summary.setting("seed")
    place = summary.env_id + ("" if seed is None else f" · seed {seed}")
    words = f'<div><p class="kicker">{escape(place)}</p><h1>{escape(title)}</h1>{_story(summary)}</div>'
    robot = _robot(summary)
    hero = f'<header class="hero{"" if robot else " alone"}">{words}{robot}</header>'
    remarks = "".join(f"<li>{escape(remark)}</li>" for remark in summary.remarks)
    return hero + (f'<ul class="remarks">{remarks}</ul>' if remarks else "") + _figures(summary)


def _robot(summary: Summary) -> str:
    path = summary.animation
    return pictures.moving(path, "An episode of the final policy") if path is not None else ""


def _story(summary: Summary) -> str:
    labels, steps = summary.last("labels"), summary.last("steps")
    if not summary.comparisons or not labels > 0 or not math.isfinite(steps):
        return ""
    asked = escape(summary.comparisons[-1].annotator)
    return (
        f'<p class="lead">The {asked} saw two clips of {summary.comparisons[-1].query.first.length} steps at a time '
        f"and said which is better, {labels:,.0f} times. A reward was fitted to the answers, a policy to the reward, "
        f"within {steps:,.0f} steps and {duration(summary.last('seconds'))}. {_told(summary)}</p>"
    )


def _told(summary: Summary) -> str:
    """What the robot was told beside the answers."""
    names = [escape(name.replace("_", " ")) for name in summary.setting("inputs") or ()]
    if not names:
        return "Nothing else said what to do."
    return f"What to look at was told, too: {', '.join(names)}. Nothing else said what to do."


def _figures(summary: Summary) -> str:
    cards = [_final(summary, name, label) for name, label in FINAL.items()]
    cards += [card(label, f"{summary.last(name):,.0f}") for name, label in COUNTS.items() if summary.last(name) >= 0]
    cards += _pace(summary.last("steps"), summary.last("seconds"))
    cards += [
        card(label, str(summary.setting(name)).partition("+")[0])  # of torch's version the build is in the table below
        for name, label in SETTINGS.items()
        if isinstance(summary.setting(name), str | int)
    ]
    return f'<dl class="figures">{"".join(cards)}</dl>'


def _pace(steps: float, seconds: float) -> list[str]:
    if not (math.isfinite(steps) and seconds > 0):
        return []
    return [card("wall time", duration(seconds)), card("steps a second", f"{steps / seconds:,.0f}")]


def _final(summary: Summary, name: str, label: str) -> str:
    found = summary.evaluation.get(name)
    if not found:
        value = summary.last(name)
        return card(label, signed(value), "while training") if math.isfinite(value) else ""
    spread = f"± {signed(found['std'])} over {summary.evaluation.get('episodes')} episodes, IQM {signed(found['iqm'])}"
    return card(label, signed(found["mean"]), spread)
