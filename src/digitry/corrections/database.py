"""The database of a store: its address, its tables, and how SQLite and PostgreSQL are opened."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digitry.corrections.correction import Correction, LineCorrection
from digitry.errors import DigitryError, UnavailableError, UsageError
from digitry.places import corrections_file

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, TableClause

BUSY_SECONDS = 5.0
"""How long a writer of SQLite waits for another one."""


class StoreError(DigitryError):
    """The store cannot be reached, or is not a store of corrections."""


class StoreFullError(StoreError):
    """The disk of the store is full."""


def file_of(url: str) -> Path | None:
    """Return the SQLite file that a URL names, existing or not; None for any other URL."""
    from sqlalchemy import exc, make_url

    try:
        parsed = make_url(full_url(url))
    except exc.ArgumentError:
        return None
    is_file = parsed.get_backend_name() == "sqlite" and parsed.database
    return Path(parsed.database) if is_file and parsed.database else None


def full_url(url: str | None) -> str:
    """Return the SQLAlchemy URL of a store, from a URL, a file, or None for the user's own store.

    Raises:
        UnavailableError: this user has no home directory.
    """
    if url is not None and "://" in url:
        if url.startswith("postgresql://"):
            return url.replace("postgresql://", "postgresql+psycopg://", 1)
        return url
    path = corrections_file() if url is None else Path(url).expanduser()
    if path is None:
        raise UnavailableError(
            "this user has no home directory for the corrections", remedy="name a file with --db"
        )
    return f"sqlite:///{path.absolute()}"


def tables() -> "tuple[TableClause, TableClause]":
    """Return the tables of corrected digits and of corrected lines, as the migrations make them.

    A column has the name of its field. Its type is in the migrations alone, and so is the index by
    which the database enforces that a glyph or line has at most one current correction.
    """
    from sqlalchemy import column, table

    digits, lines = (
        table(name, *(column(field.name) for field in fields(kind)))
        for name, kind in (
            ("digitry_corrections", Correction),
            ("digitry_corrected_lines", LineCorrection),
        )
    )
    return digits, lines


def engine(url: Any, create: bool) -> "Engine":
    """Return the engine of a database.

    Args:
        url: a `sqlalchemy.URL`.
        create: whether to create a missing SQLite file.

    Raises:
        UsageError: it is neither SQLite in a file nor PostgreSQL.
        StoreError: the file is missing, or its folder cannot be created.
        UnavailableError: the driver is missing.
    """
    backend = url.get_backend_name()
    if backend == "postgresql":
        return _postgresql(url)
    if backend != "sqlite":
        raise UsageError(
            f"{backend} is not supported for corrections", remedy="use sqlite or postgresql"
        )
    if url.database in (None, "", ":memory:"):
        raise UsageError("corrections cannot be stored in memory", remedy="name a file")
    return _sqlite(url, create)


def _postgresql(url: Any) -> "Engine":
    import sqlalchemy

    try:
        return sqlalchemy.create_engine(
            url,
            pool_pre_ping=True,
            pool_size=8,
            connect_args={"connect_timeout": 5, "options": "-c statement_timeout=10000"},
        )
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"PostgreSQL needs the driver {error.name}", remedy="pip install 'digitry[postgresql]'"
        ) from error


def _sqlite(url: Any, create: bool) -> "Engine":
    import sqlalchemy
    from sqlalchemy import event

    folder = Path(url.database).parent
    if not create and not Path(url.database).exists():
        raise StoreError(
            "there is no store of corrections",
            where=url.database,
            remedy="check --db; `digitry serve` and `digitry corrections import` create a store",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreError(
            f"cannot be created ({error.strerror})", where=folder, remedy="choose another --db"
        ) from error
    sqlite = sqlalchemy.create_engine(url, connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(sqlite, "connect")
    def settings(connection: Any, _: Any) -> None:
        # The driver must not begin transactions itself: it would begin them as readers.
        connection.isolation_level = None
        for line in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "fullfsync=1",
            "foreign_keys=ON",
            f"busy_timeout={int(BUSY_SECONDS * 1000)}",
            "trusted_schema=OFF",
        ):
            connection.execute(f"PRAGMA {line}")

    @event.listens_for(sqlite, "begin")
    def begin(connection: "Connection") -> None:
        # A writer takes its lock at the start and can wait for it; a reader that becomes a writer cannot.
        write = connection.info.get("write", True)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return sqlite
