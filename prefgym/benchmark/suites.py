"""Suites: which cells, with which settings. One entry of `SUITES` each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from prefgym.benchmark.cells import TRACKS, Cell, grid
from prefgym.benchmark.methods import methods
from prefgym.benchmark.pools import PoolSpec
from prefgym.benchmark.settings import OnlineSettings, Settings
from prefgym.benchmark.tasks import tasks
from prefgym.benchmark.teachers import teachers
from prefgym.registry import UnknownNameError

KINDS = {"offline": ("control", "text"), "online": ("control",), "overoptimisation": ("control", "text")}
"""Of the tasks that each track is for."""

TEXT = ("story", "glad-story", "easy-story")
CONTROL = ("backflip", "hop", "cheetah-run", "cheetah-stand", "walker-walk")
LENGTHS = tuple(f"{task}{length}" for task in ("backflip", "hop", "cheetah-run") for length in ("-short", "", "-long"))
BASELINES = ("random-labels", "flipped", "true")
STRATEGIES = tuple(f"{name}-ensemble" for name in ("uniform", "on-policy", "disagreement", "entropy", "information"))
OTHERS = ("ranked-ensemble", "ranked-implied", "uniform-single", "uniform-crops", "uniform-surf", "linear")
OFFLINE = (*STRATEGIES, *OTHERS)


@dataclass(frozen=True)
class Part:
    """All combinations of some names on one track."""

    track: str
    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    teachers: tuple[str, ...]
    seeds: int


@dataclass(frozen=True)
class Suite:
    """Cells and their settings.

    Attributes:
        name: of the suite.
        summary: what it is for, and how long it takes.
        settings: of all its cells.
        parts: what it is made of.
    """

    name: str
    summary: str
    parts: tuple[Part, ...]
    settings: Settings = field(default_factory=Settings)

    @property
    def cells(self) -> list[Cell]:
        """All cells, those of quick tracks first; a method that a task or a track is not for is left out there."""
        return [
            cell
            for part in self.parts
            for cell in grid(part.track, part.tasks, part.methods, part.teachers, range(part.seeds))
            if able(cell.track, cell.task, cell.method)
        ]


def able(track: str, task: str, method: str) -> bool:
    """Whether a method can be run on a track with a task."""
    kind, one = tasks[task].kind, methods[method]()
    return track in one.tracks and kind in KINDS[track] and kind in one.kinds


SUITES = {
    suite.name: suite
    for suite in (
        Suite(
            "smoke",
            "whether everything works: tiny pools, few budgets; under 3 minutes on two cores",
            (
                Part("offline", ("backflip", "cheetah-stand"), (*OFFLINE, *BASELINES), ("oracle", "human-like"), 1),
                Part("online", ("cheetah-stand",), ("uniform-ensemble", "random-labels", "true"), ("oracle",), 1),
            ),
            Settings(
                budgets=(25, 50, 100),
                pool=PoolSpec(steps=66_000, candidates=60, queries=40, snapshots=6),
                online=OnlineSettings(labels=(60,), steps=66_000, sessions=6, episodes=8),
            ),
        ),
        Suite(
            "standard",
            "the figures of docs/benchmark.md: an evening on two cores",
            (
                Part("offline", CONTROL, (*OFFLINE, *BASELINES), ("oracle", "mistaken", "human-like"), 10),
                Part("online", CONTROL, ("uniform-ensemble", "disagreement-ensemble", "true"), ("oracle",), 3),
            ),
            Settings(online=OnlineSettings(labels=(400,))),
        ),
        Suite(
            "text",
            "language models: the offline track, and over-optimisation; an evening on two cores",
            (
                Part("offline", TEXT, (*STRATEGIES, "uniform-single", "dpo", *BASELINES), ("oracle", "mistaken"), 3),
                Part(
                    "overoptimisation",
                    TEXT,
                    ("uniform-ensemble", "uniform-single", "pessimistic-ensemble"),
                    ("oracle",),
                    3,
                ),
            ),
            Settings(budgets=(25, 100, 400), online=OnlineSettings(labels=(25, 100, 400))),
        ),
        Suite(
            "overoptimisation",
            "how far a reward of three tasks of control can be trusted; an hour and a half on two cores",
            (
                Part(
                    "overoptimisation",
                    ("backflip", "hop", "cheetah-run"),
                    ("uniform-ensemble", "uniform-single", "pessimistic-ensemble"),
                    ("oracle",),
                    5,
                ),
            ),
            Settings(online=OnlineSettings(labels=(25, 100, 400))),
        ),
        Suite(
            "claims",
            "what the literature says of ensembles' sizes and segments' lengths; most of an hour on two cores",
            (
                Part(
                    "offline",
                    (*LENGTHS, "cheetah-stand", "walker-walk"),
                    ("uniform-ensemble", "disagreement-ensemble", "uniform-seven", "disagreement-seven"),
                    ("oracle",),
                    10,
                ),
            ),
        ),
        Suite(
            "full",
            "every method under every teacher, and SAC: days on two cores",
            (
                Part("offline", CONTROL, (*OFFLINE, *BASELINES), tuple(teachers), 10),
                Part(
                    "online",
                    CONTROL,
                    (*STRATEGIES, "ranked-ensemble", "uniform-single", "uniform-crops", "uniform-sac", *BASELINES),
                    ("oracle", "mistaken", "human-like"),
                    10,
                ),
            ),
        ),
    )
}
"""Name to suite."""


def suite_of(name: str) -> Suite:
    """The suite of a name.

    Raises:
        UnknownNameError: there is none; the message says which there are.
    """
    if name not in SUITES:
        raise UnknownNameError("suite", name, SUITES)
    return SUITES[name]


def narrowed(
    suite: Suite,
    *,
    tracks: Sequence[str] = (),
    tasks: Sequence[str] = (),
    methods: Sequence[str] = (),
    teachers: Sequence[str] = (),
    seeds: int | None = None,
    budgets: Sequence[int] = (),
    labels: Sequence[int] = (),
    sessions: int | None = None,
) -> Suite:
    """The suite with other names and numbers where they are given.

    A method that cannot be run on a track, or with a task, is left out there.

    Raises:
        UnknownNameError: a name that does not exist; the message says which do.
        ValueError: fewer than 1 seed or session, budgets that do not ascend, or nothing left to do.
    """
    _check_known(tracks, tasks, methods, teachers)
    for name, number in {"seeds": seeds, "sessions": sessions}.items():
        if number is not None and number < 1:
            raise ValueError(f"`{name}` must be at least 1, got {number}")
    parts = [_part(part, tasks, methods, teachers, seeds) for part in suite.parts if part.track in (tracks or TRACKS)]
    online = suite.settings.online
    online = replace(online, labels=tuple(labels) or online.labels, sessions=sessions or online.sessions)
    settings = replace(suite.settings, budgets=tuple(budgets) or suite.settings.budgets, online=online)
    found = replace(suite, parts=tuple(parts), settings=settings)
    if not found.cells:
        raise ValueError(f"nothing of {suite.name!r} is left: the methods, tasks and tracks do not go together")
    return found


def _part(part: Part, tasks: Sequence[str], chosen: Sequence[str], teachers: Sequence[str], seeds: int | None) -> Part:
    return Part(
        part.track,
        tuple(tasks) or part.tasks,
        tuple(dict.fromkeys(chosen)) or part.methods,
        tuple(teachers) or part.teachers,
        seeds or part.seeds,
    )


def _check_known(
    wanted_tracks: Sequence[str], wanted_tasks: Sequence[str], wanted: Sequence[str], who: Sequence[str]
) -> None:
    known = {"track": (TRACKS, wanted_tracks), "task": (tasks, wanted_tasks)}
    known |= {"method": (methods, wanted), "teacher": (teachers, who)}
    for kind, (names, asked) in known.items():
        for name in asked:
            if name not in list(names):
                raise UnknownNameError(kind, name, dict.fromkeys(names))
