"""prefgym label: people answer a run's or a store's queries, at a window, in browsers or at a terminal."""

from __future__ import annotations

import getpass
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from prefgym.labelling import quality
from prefgym.labelling.desk import check_annotator
from prefgym.labelling.formats import check_suffix, export, import_labels
from prefgym.runs import Run, RunError
from prefgym.store import Entry, Store

FRONT_ENDS = ("window", "terminal", "web")

Trouble = Callable[[], str]


@dataclass(frozen=True)
class LabelConfig:
    """Say which of two clips or texts is better; training, if it goes on, learns from it at once.

    Keys: ← the left one is better, → the right one, ↑ or = both are as good, ↓ or Space cannot tell, U undo, R replay,
    + and − set the pace, PageUp and PageDown scroll long texts, H helps, Q saves and quits. Where all pairs of several
    responses are asked, press their numbers from the best to the worst (= ties the next), and Enter. With --export or
    --import-labels nothing is shown, unless a front end is named too.

    Attributes:
        store: a run's folder, a store's file such as feedback.db, or a database such as postgresql+psycopg://…
        window: open a window; the default where there is a display.
        terminal: label at this terminal; the default elsewhere.
        web: serve a page for any number of browsers.
        host: of the page; any but this machine's own demands a token, which is printed.
        port: of the page.
        annotator: who answers at the window or the terminal; your login name if not given.
        import_labels: first add the answers in this file: .csv, .jsonl, or Label Studio's .json.
        export: in the end write the answers into this file: .csv, .jsonl, or Label Studio's .json.
    """

    store: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DB_OR_RUN")]
    window: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    terminal: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    web: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    host: str = "127.0.0.1"
    port: int = 8765
    annotator: str = ""
    import_labels: Path | None = None
    export: Path | None = None

    def __post_init__(self) -> None:
        chosen = [f"--{name}" for name in FRONT_ENDS if getattr(self, name)]
        if len(chosen) > 1:
            raise ValueError(f"only one of --window, --terminal and --web can be used, got {' and '.join(chosen)}")
        if not 0 <= self.port < 1 << 16:
            raise ValueError(f"`port` must be from 0 to 65535, got {self.port}")
        for path in filter(None, (self.import_labels, self.export)):
            check_suffix(path)
        if self.annotator:
            check_annotator(self.annotator)
        if not self.web and (self.host, self.port) != ("127.0.0.1", 8765):
            raise ValueError("`host` and `port` are of the page: add --web")

    @property
    def front_end(self) -> str:
        """Name of what is to be used; "" for nothing, when only files are read or written."""
        named = next((name for name in FRONT_ENDS if getattr(self, name)), "")
        if named or self.export or self.import_labels:
            return named
        return "window" if _has_display() else "terminal"


def main(arguments: Sequence[str]) -> int:
    """Labels until the front end is closed, and says what came of it."""
    label(tyro.cli(LabelConfig, prog="prefgym label", args=list(arguments)))
    return 0


def label(config: LabelConfig) -> None:
    """Labels.

    Raises:
        RunError: the folder holds no run.
        StoreError: there is no store, or a file does not hold answers to its queries.
        WindowError: there is no display.
        TerminalError: there is no terminal.
        WebError: the page's host or port cannot be listened on.
    """
    target, folder = find(config.store)
    with Store(target, create=False) as store:
        if config.import_labels:
            print(f"{config.import_labels}: {_answers(import_labels(store, config.import_labels))} new")
        before = len(store.ledger())
        try:
            if config.front_end:
                show(config.front_end, config, store, folder)
        except KeyboardInterrupt:
            _conclude(store, config, before)
            raise
        _conclude(store, config, before)


def show(
    front_end: str, config: LabelConfig, store: Store, folder: Path | None, training: Trouble | None = None
) -> None:
    """Lets people answer until they close the front end; training: what is wrong with it, "" if nothing is."""
    _SHOW[front_end](store, folder, config, training)


def _conclude(store: Store, config: LabelConfig, before: int) -> None:
    """Says what came of it, and writes the file that was asked for; before: answers at the start."""
    entries = store.ledger()
    if config.front_end:
        new = [entry for entry in entries[before:] if config.web or entry.annotator == _annotator(config)]
        print(f"{_answers(len(quality.current(new)))} given. {_waiting(store)}")
    print("\n".join(figures(entries)))
    if config.export:
        print(f"{config.export}: {_answers(export(store, config.export))}")


def find(name: str) -> tuple[str | Path, Path | None]:
    """Where the store is that this names, and the folder of its run if it is one.

    Raises:
        RunError: it is a folder, but no run, or there is nothing of this name.
    """
    if "://" in name:
        return name, None
    path = Path(name)
    if path.is_dir():
        run = Run.open(path)
        return run.database, run.folder
    if not path.exists():
        raise RunError(f"{name} does not exist: name a run's folder, a store's file, or a database's URL")
    return path, path.parent if (path.parent / "config.json").exists() and path.name == "feedback.db" else None


def figures(entries: Sequence[Entry]) -> list[str]:
    """Lines about the quality of all answers in a store."""
    left, clear = quality.left_share(entries)
    same, repeated = quality.self_consistency(entries)
    kappa, seconds = quality.cohen_kappa(entries), quality.median_seconds(entries)
    lines = [f"{_answers(len(quality.current(entries)))} in the store, by {_people(entries)}"]
    lines += [f"  median time of an answer      {seconds:.1f} s"] if not math.isnan(seconds) else []
    lines += [f"  the left one was chosen       {left} of {clear} times"] if clear else []
    lines += [f"  the same when asked again     {same} of {repeated} times"] if repeated else []
    lines += [f"  agreement of people (kappa)   {kappa:.2f}".replace("-", "−")] if not math.isnan(kappa) else []
    return lines


def _window(store: Store, folder: Path | None, config: LabelConfig, training: Trouble | None) -> None:
    from prefgym.labelling.window import label

    label(store, run=folder, annotator=_annotator(config), training=training)


def _terminal(store: Store, folder: Path | None, config: LabelConfig, training: Trouble | None) -> None:
    from prefgym.labelling.terminal import label

    label(store, run=folder, annotator=_annotator(config), training=training)


def _web(store: Store, folder: Path | None, config: LabelConfig, _training: Trouble | None) -> None:
    from prefgym.labelling.web import serve

    serve(store, run=folder, host=config.host, port=config.port)


_SHOW = {"window": _window, "terminal": _terminal, "web": _web}


def _annotator(config: LabelConfig) -> str:
    return check_annotator(config.annotator or getpass.getuser())


def _has_display() -> bool:
    """Whether a window can be expected to open."""
    if sys.platform in ("darwin", "win32"):
        return "SSH_CONNECTION" not in os.environ
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _answers(count: int) -> str:
    return f"{count} answer" if count == 1 else f"{count} answers"


def _people(entries: Sequence[Entry]) -> str:
    names = sorted({entry.annotator for entry in quality.current(entries)})
    return ", ".join(names) if 0 < len(names) <= 3 else "nobody" if not names else f"{len(names)} annotators"


def _waiting(store: Store) -> str:
    count = store.counts()["open"]
    return f"{count} {'query waits' if count == 1 else 'queries wait'} for an answer."
