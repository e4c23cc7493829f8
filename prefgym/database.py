"""The database under the store: its tables, its connections, and errors that say what to do."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from os import PathLike, fspath
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

SCHEMA = 2
"""Version of the tables below; a store says which it has."""

BUSY_SECONDS = 30
"""How long to wait for another process that writes."""

tables = sa.MetaData()

meta = sa.Table(
    "meta",
    tables,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("value", sa.String, nullable=False),
)
segments = sa.Table(
    "segments",
    tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("data", sa.LargeBinary, nullable=False),  # Segment.to_bytes()
    sa.Column("env_id", sa.String, nullable=False),
    sa.Column("length", sa.Integer, nullable=False),
    sa.Column("step", sa.BigInteger, nullable=False),
)
queries = sa.Table(
    "queries",
    tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("uid", sa.String(32), nullable=False, unique=True),  # the same in every copy of the store
    sa.Column("key", sa.String, unique=True),  # NULL for none
    sa.Column("first_id", sa.ForeignKey("segments.id"), nullable=False),
    sa.Column("second_id", sa.ForeignKey("segments.id"), nullable=False),
    sa.Column("strategy", sa.String, nullable=False),
    sa.Column("prediction", sa.Double),
    sa.Column("state", sa.String(16), nullable=False, index=True),  # open, answered or withdrawn
    sa.Column("created", sa.Double, nullable=False),
)
comparisons = sa.Table(
    "comparisons",
    tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("uid", sa.String(32), nullable=False, unique=True),
    sa.Column("query_id", sa.ForeignKey("queries.id"), nullable=False),
    sa.Column("answer", sa.String(16), nullable=False),
    sa.Column("annotator", sa.String, nullable=False),
    sa.Column("time", sa.Double, nullable=False),
    sa.Column("seconds", sa.Double, nullable=False),
    sa.Column("flipped", sa.Boolean, nullable=False),  # the first segment was shown on the right
    sa.Index("comparisons_by_annotator", "query_id", "annotator"),
)
leases = sa.Table(
    "leases",
    tables,
    sa.Column("token", sa.String(32), primary_key=True),  # the uid of the comparison that it becomes
    sa.Column("query_id", sa.ForeignKey("queries.id"), nullable=False, index=True),
    sa.Column("annotator", sa.String, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),  # new, second or repeat
    sa.Column("flipped", sa.Boolean, nullable=False),
    sa.Column("given", sa.Double, nullable=False),
    sa.Column("until", sa.Double, nullable=False),
)


class StoreError(RuntimeError):
    """Something about a store went wrong: which store, what, and what to do. No answer given before is lost by it."""

    advice = ""

    def __init__(self, store: str, problem: str) -> None:
        super().__init__(store, problem)

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}. {self.advice}".rstrip()


class MissingStoreError(StoreError):
    """There is no store, and none was to be made."""

    advice = "Check the path of the run."


class NotAStoreError(StoreError):
    """A file or database that holds something else; it is left as it is."""

    advice = "Choose another path; this one is left untouched."


class SchemaVersionError(StoreError):
    """The store was written by another version of prefgym."""

    advice = "Export it with the version of prefgym that wrote it, and import that into a new store with this one."


class DamagedStoreError(StoreError):
    """The store's contents contradict themselves."""

    advice = (
        "Copy the file together with its -wal file before anything else, then save what is readable with "
        "`sqlite3 OLD .recover | sqlite3 NEW`, or import an earlier export into a new store."
    )


class UnwritableStoreError(StoreError):
    """No permission, no such folder, or no space left."""

    advice = "Free some space or choose a folder that exists and can be written; what was stored before is kept."


class BusyStoreError(StoreError):
    """Another process held the store for too long."""

    advice = "Another process is writing to it: try again."


_KINDS: dict[int, type[StoreError]] = {
    sqlite3.SQLITE_PERM: UnwritableStoreError,
    sqlite3.SQLITE_READONLY: UnwritableStoreError,
    sqlite3.SQLITE_IOERR: UnwritableStoreError,
    sqlite3.SQLITE_FULL: UnwritableStoreError,
    sqlite3.SQLITE_CANTOPEN: UnwritableStoreError,
    sqlite3.SQLITE_BUSY: BusyStoreError,
    sqlite3.SQLITE_LOCKED: BusyStoreError,
    sqlite3.SQLITE_CORRUPT: DamagedStoreError,
    sqlite3.SQLITE_NOTADB: NotAStoreError,
}


class Database:
    """Connections to a SQLite file or to any database SQLAlchemy knows, with errors translated to `StoreError`.

    SQLite runs in WAL mode with synchronous=FULL: what was committed survives a killed process and a power cut.
    """

    def __init__(self, target: str | PathLike[str], create: bool) -> None:
        self._engine = _engine(target)
        self.name = self._engine.url.database or ":memory:"
        if not self._sqlite:
            self.name = self._engine.url.render_as_string(hide_password=True)
        elif not create and not Path(self.name).exists():
            raise MissingStoreError(self.name, "does not exist")
        with self._translated():
            self._open(create)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that sees one state of the database throughout."""
        with self._translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction alone in writing: all of it is committed at the end, or nothing."""
        with self._translated(), self._engine.execution_options(writes=True).begin() as connection:
            # SQLite locks by BEGIN IMMEDIATE; elsewhere this row does, so that ids become visible in their order.
            if not self._sqlite:
                connection.execute(sa.select(meta.c.name).where(meta.c.name == "schema").with_for_update())
            yield connection

    def close(self) -> None:
        """Closes all connections."""
        self._engine.dispose()

    @property
    def _sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    def _open(self, create: bool) -> None:
        # Looked at before anything is written, so that somebody else's database stays as it is.
        with self._engine.begin() as connection:
            present = self._present(connection)
        if not present and not create:
            raise MissingStoreError(self.name, "is an empty database")
        if not present:
            self._create()
        if self._sqlite:
            with closing(self._engine.raw_connection()) as connection:  # not within a transaction
                _use_wal(connection.cursor())

    def _present(self, connection: sa.Connection) -> bool:
        inspector = sa.inspect(connection)
        names = inspector.get_table_names()
        columns = {column["name"] for column in inspector.get_columns("meta")} if "meta" in names else set()
        if names and columns != set(meta.c.keys()):
            raise NotAStoreError(self.name, f"is a database, but no store of prefgym (tables: {', '.join(names)})")
        if names:
            self._check(connection)
        return bool(names)

    def _check(self, connection: sa.Connection) -> None:
        version = connection.scalar(sa.select(meta.c.value).where(meta.c.name == "schema"))
        if version != str(SCHEMA):
            raise SchemaVersionError(self.name, f"has schema version {version}, and this prefgym reads {SCHEMA}")
        verdict = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar() if self._sqlite else "ok"
        if verdict != "ok":
            raise DamagedStoreError(self.name, f"is damaged ({verdict})")

    def _create(self) -> None:
        with self._engine.execution_options(writes=True).begin() as connection:
            if not self._present(connection):  # another process may have been faster
                tables.create_all(connection)
                connection.execute(sa.insert(meta).values(name="schema", value=str(SCHEMA)))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error) as error:
            cause = getattr(error, "orig", None) or error
            code = getattr(cause, "sqlite_errorcode", None)
            kind = StoreError if code is None else _KINDS.get(code & 0xFF, StoreError)
            raise kind(self.name, str(cause)) from error


def _engine(target: str | PathLike[str]) -> sa.Engine:
    target = fspath(target)
    try:
        url = sa.make_url(target) if "://" in target else sa.URL.create("sqlite", database=target)
        engine = sa.create_engine(url)
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:
        raise StoreError(target.partition("://")[0] + "://…", f"cannot be opened: {error}") from error
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _configure)
        sa.event.listen(engine, "begin", _begin)
    return engine


def _configure(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver's own BEGIN comes too late for a consistent read
    for setting in (f"busy_timeout = {1000 * BUSY_SECONDS}", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {setting}")


def _use_wal(cursor: DBAPICursor) -> None:
    # This one statement does not wait busy_timeout for whoever else opens the new file, but fails at once.
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if _KINDS.get(error.sqlite_errorcode & 0xFF) is not BusyStoreError or time.monotonic() > until:
                raise
            time.sleep(0.01)


def _begin(connection: sa.Connection) -> None:
    # Taking the write lock at once waits for other writers; upgrading a read lock later would fail instead.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
