"""The end of a report: the command that makes the run again, and every setting."""

from __future__ import annotations

import shlex
import time
from html import escape

from prefgym.pages.markup import section, table
from prefgym.runs import Run
from prefgym.scripts.options import to_json
from prefgym.scripts.report.summary import Summary, flatten
from prefgym.scripts.train_config import TrainConfig

ALWAYS = ("loop.labels", "loop.steps", "seed")
NEVER = ("out", "num_threads")  # where it is, and how quickly it comes, change nothing
TOP = "run"  # the table of what is not nested


def settings(summary: Summary) -> str:
    """How to make the run again."""
    tables = "".join(table(name.replace("_", " "), rows) for name, rows in _groups(summary).items())
    command = f"<pre><code>{escape(reproduction(summary))}</code></pre>"
    told = "With the same versions on the same kind of machine, this gives the same run:"
    return section("How to make it again", told, command + tables) + _footer(summary)


def reproduction(summary: Summary) -> str:
    """The command that trains this run again: its options as far as they are not the defaults."""
    options, defaults = (dict(flatten(one)) for one in (summary.config.get("options", {}), to_json(TrainConfig())))
    changed = {name: value for name, value in options.items() if name in ALWAYS or value != defaults.get(name)}
    flags = [_flag(name, value) for name, value in changed.items() if name not in NEVER and value is not None]
    return " ".join(["prefgym backflip", *flags])


def _flag(name: str, value: object) -> str:
    """An option as tyro reads it; the loop's have no prefix."""
    group, _, last = name.removeprefix("loop.").replace("_", "-").rpartition(".")
    prefix = f"{group}." if group else ""
    if isinstance(value, bool):
        return f"--{prefix}{last}" if value else f"--{prefix}no-{last}"
    if isinstance(value, list):
        return " ".join([f"--{prefix}{last}", *map(shlex.quote, value)])
    return f"--{prefix}{last} {shlex.quote(str(value))}"


def _groups(summary: Summary) -> dict[str, list[tuple[str, object]]]:
    """Settings by the last group that they are in: options.ppo.gamma is "gamma" of "ppo"."""
    groups: dict[str, list[tuple[str, object]]] = {TOP: []}
    for key, value in flatten(summary.config):
        group, _, name = key.removeprefix("options.").rpartition(".")
        groups.setdefault(group or TOP, []).append((name, value))
    return groups


def _footer(summary: Summary) -> str:
    metrics = Run(summary.folder).metrics_path
    written = time.strftime("%Y-%m-%d %H:%M", time.localtime(metrics.stat().st_mtime)) if metrics.exists() else ""
    parts = [f"prefgym {summary.setting('prefgym') or ''}".strip(), summary.folder.resolve().name, written]
    return f"<footer>{escape(' · '.join(filter(None, parts)))}</footer>"
