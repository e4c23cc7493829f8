"""Results: a folder of finished cells, each a file of tidy rows that is there as a whole or not at all.

suite.json            what was asked for: format, suite, settings, cells, versions, machine, the pools' checksums
cells/NAME.csv        a finished cell
failed/NAME.txt       the traceback of a cell that failed; it is tried again when the suite is run again
results.csv           all rows, written by `collect`; results.parquet too, where pyarrow is installed
"""

from __future__ import annotations

import csv
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

from prefgym import __version__
from prefgym.benchmark.cells import Cell
from prefgym.pages import write_whole

FORMAT = 1

CELL = ("track", "task", "method", "teacher", "seed")
COLUMNS = (*CELL, "budget", "metric", "stage", "value", "seconds", "version", "commit", "machine", "kl")

FIXED = ("format", "suite", "version", "settings")
"""What may not differ between two calls for one folder; cells may be added."""

Row = dict[str, Any]


class ResultsError(RuntimeError):
    """A folder that is not there, damaged, or of something else."""


class Results:
    """A folder of results that exists.

    Args:
        folder: it has a suite.json.

    Raises:
        ResultsError: there is none, or it is damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            self.facts: dict[str, Any] = json.loads((self.folder / "suite.json").read_text())
            self.cells = [Cell.of(name) for name in self.facts["cells"]]
        except FileNotFoundError:
            raise ResultsError(f"there are no results in {self.folder}: prefgym bench run makes them") from None
        except (ValueError, KeyError, TypeError) as error:
            raise ResultsError(f"{self.folder / 'suite.json'} is damaged: {error}") from error

    @classmethod
    def begin(cls, folder: str | Path, suite: str, settings: Mapping[str, Any], cells: Sequence[Cell]) -> Results:
        """Makes the folder, or goes on with it: cells that it does not have yet are added.

        Args:
            folder: of the results.
            suite: its name.
            settings: of the cells, as JSON can hold them.
            cells: that are to be there in the end.

        Raises:
            ResultsError: the folder is of another suite, version or format, or with other settings.
        """
        told = {"format": FORMAT, "suite": suite, "version": __version__, "settings": json.loads(json.dumps(settings))}
        path = Path(folder)
        if (path / "suite.json").exists():
            results = cls(path)
            results._compare(told)
            told = results.facts
        elif path.exists() and any(path.iterdir()):
            raise ResultsError(f"{path} is no folder of results, and not empty: give another --out")
        before = told.get("cells", [])
        named = [*before, *(cell.name for cell in cells if cell.name not in set(before))]
        (path / "cells").mkdir(parents=True, exist_ok=True)
        (path / "failed").mkdir(exist_ok=True)
        facts = {"pools": {}, "commit": commit(), "machine": machine(), **told, "cells": named}
        write_whole(path / "suite.json", json.dumps(facts, indent=2) + "\n")
        return cls(path)

    def _compare(self, told: Mapping[str, Any]) -> None:
        for name in FIXED:
            there, wanted = self.facts.get(name), told[name]
            if there != wanted:
                differ = _difference(there, wanted) if name == "settings" else f"{there!r}, and not {wanted!r}"
                raise ResultsError(
                    f"{self.folder} has results with the {name} {differ}, which do not go together: to keep both, give "
                    f"another --out, such as {self.folder}-{told['version']}-{told['suite']}"
                )

    # What is there.

    def finished(self) -> list[Cell]:
        """The cells that are done."""
        return [cell for cell in self.cells if self._path(cell).exists()]

    def failed(self) -> dict[Cell, str]:
        """The cells that failed when they were last tried, with their tracebacks."""
        paths = {cell: self.folder / "failed" / f"{cell.file}.txt" for cell in self.cells}
        return {cell: path.read_text() for cell, path in paths.items() if path.exists()}

    def rows(self) -> list[Row]:
        """All rows of the finished cells, as text."""
        found: list[Row] = []
        for cell in self.finished():
            with self._path(cell).open(newline="") as file:
                found += csv.DictReader(file)
        return found

    def collect(self) -> Path:
        """Writes results.csv, and results.parquet where pyarrow is installed; returns the path of the former."""
        rows, path = self.rows(), self.folder / "results.csv"
        write_whole(path, _csv(rows))
        _write_parquet(rows, self.folder / "results.parquet")
        return path

    # What is added.

    def write(self, cell: Cell, rows: Iterable[Row]) -> None:
        """A cell is done: what it came to, by rows that may have their provenance; a failure before is forgotten."""
        known = {name: getattr(cell, name) for name in CELL} | provenance()
        write_whole(self._path(cell), _csv([{**known, **row} for row in rows]))
        (self.folder / "failed" / f"{cell.file}.txt").unlink(missing_ok=True)

    def fail(self, cell: Cell, traceback: str) -> None:
        """A cell failed."""
        write_whole(self.folder / "failed" / f"{cell.file}.txt", traceback)

    def keep_pool(self, task: str, checksum: str) -> None:
        """The cells of a task are on this pool.

        Raises:
            ResultsError: those that are done are on another.
        """
        there = self.facts["pools"].setdefault(task, checksum)
        if there != checksum:
            raise ResultsError(
                f"{self.folder} has results on another pool of {task} ({there[:12]}…, and not {checksum[:12]}…): give "
                "another --out, or bring the old pool back into prefgym's cache"
            )
        write_whole(self.folder / "suite.json", json.dumps(self.facts, indent=2) + "\n")

    def _path(self, cell: Cell) -> Path:
        return self.folder / "cells" / f"{cell.file}.csv"


@cache
def commit() -> str:
    """The commit of prefgym's checkout, with "+" where it was changed since; "" where it is installed otherwise."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return ""
    said = [
        subprocess.run(["git", "-C", root, *words], capture_output=True, text=True, check=False)
        for words in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
    ]
    return "" if said[0].returncode else said[0].stdout.strip() + ("+" if said[1].stdout.strip() else "")


@cache
def machine() -> str:
    """The machine in words: system, processor, cores, Python."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def provenance() -> Row:
    """Of what this process computes."""
    return {"version": __version__, "commit": commit(), "machine": machine()}


def _csv(rows: Iterable[Row]) -> str:
    text = StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _write_parquet(rows: Sequence[Row], path: Path) -> None:
    """The rows with numbers as numbers, and nothing where a cell is empty."""
    try:
        import pyarrow  # type: ignore[import-untyped]
        from pyarrow import parquet
    except ImportError:
        return
    kinds = {"seed": int, "budget": int, "value": float, "seconds": float, "kl": float}
    types = {int: pyarrow.int64(), float: pyarrow.float64(), str: pyarrow.string()}
    columns = {
        name: pyarrow.array([_number(row[name], kinds.get(name, str)) for row in rows], types[kinds.get(name, str)])
        for name in COLUMNS
    }
    draft = path.with_suffix(".new")
    parquet.write_table(pyarrow.table(columns), draft)
    draft.replace(path)


def _number(text: str, kind: type) -> Any:
    return text if kind is str else kind(text) if text else None


def _difference(there: Any, wanted: Any) -> str:
    names = [name for name in wanted if there is None or there.get(name) != wanted[name]] if there else []
    return f"of {' and '.join(names) or 'another kind'} otherwise"
