"""The store of corrections, in SQLite or PostgreSQL.

A confirmed correction is on disk: SQLite runs with a write-ahead log and synchronous FULL, PostgreSQL
with its own synchronous commit. A row never changes, except that it can be undone. One glyph has at most
one current correction: a new label for it undoes the old one.
"""

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digitry import extras
from digitry.corrections import database, migrations
from digitry.corrections.correction import Correction, LineCorrection, Stats
from digitry.corrections.database import StoreError, StoreFullError
from digitry.errors import UsageError
from digitry.model.artifact import LABELS

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, TableClause

LEAST_FREE_BYTES = 8 << 20
"""With less free disk space a store counts as full: room for some corrections and SQLite's log."""


class Corrections:
    """A store of corrections.

    Args:
        url: an SQLAlchemy URL, `sqlite:///file` or `postgresql+psycopg://user@host/name`, or the path
            of an SQLite file; None = the file in the user's data folder.
        create: whether to create a missing file; if not, it is a StoreError.

    Raises:
        StoreError: the store cannot be reached, or is not a store of corrections.
        UnavailableError: SQLAlchemy or the driver is missing, or this user has no home directory.
    """

    def __enter__(self) -> "Corrections":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __init__(self, url: str | None = None, *, create: bool = True) -> None:
        extras.require("serve", "corrections need", "sqlalchemy")
        import sqlalchemy

        self.url = database.full_url(url)
        try:
            parsed = sqlalchemy.make_url(self.url)
            self._engine = database.engine(parsed, create)
        except (sqlalchemy.exc.ArgumentError, sqlalchemy.exc.NoSuchModuleError) as error:
            raise UsageError(
                "is not the URL of a database",
                where="--db",
                remedy="give a file, or postgresql+psycopg://user@host/name",
            ) from error
        self.address = parsed.render_as_string(hide_password=True)
        self._digits, self._lines = database.tables()
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        try:
            self._prepare()
        except BaseException:
            # The caller gets no store to close.
            self.close()
            raise

    def add(self, correction: Correction) -> tuple[Correction, bool]:
        """Store a correction; when this returns, it is on disk.

        Args:
            correction: its id, times and hash are ignored.

        Returns:
            The stored correction, and whether it is new: the same label for the same glyph is stored
            once.

        Raises:
            StoreError: it could not be stored.
        """
        digest = _pixels_sha256(correction.glyph)
        row, new = self._add(self._digits, {**asdict(correction), "sha256": digest}, "label")
        return _correction(row), new

    def add_line(self, correction: LineCorrection) -> tuple[LineCorrection, bool]:
        """Store a correction of a line; otherwise as `add`."""
        values = {
            **asdict(correction),
            "box": ",".join(map(str, correction.box)),
            "sha256": _pixels_sha256(correction.strip),
        }
        row, new = self._add(self._lines, values, "text")
        return _line(row), new

    def _add(
        self, table: "TableClause", values: dict[str, Any], said: str
    ) -> tuple[dict[str, Any], bool]:
        """Store a row, unless the same picture has the same correction; return it and whether it is new."""
        import sqlalchemy
        from sqlalchemy import exc

        for attempt in range(8):
            row = {**values, "id": secrets.token_hex(12), "created": _now(), "undone": None}
            try:
                with self._begin() as connection:
                    current = connection.execute(
                        sqlalchemy.select(table).where(
                            table.c.sha256 == row["sha256"], table.c.undone.is_(None)
                        )
                    ).one_or_none()
                    if current is not None and current._mapping[said] == row[said]:
                        return dict(current._mapping), False
                    if current is not None:
                        connection.execute(
                            table.update()
                            .where(table.c.id == current.id)
                            .values(undone=row["created"])
                        )
                    connection.execute(table.insert().values(row))
                return row, True
            except exc.IntegrityError:
                # Another writer has just stored a correction of the same picture; try again.
                if attempt == 7:
                    raise
        raise StoreError("is too busy", where=self.address, remedy="try again")

    def undo(self, id: str) -> Correction | LineCorrection | None:
        """Undo a correction of a digit or a line; undoing it again changes nothing.

        Returns:
            The correction as it is now; None if no correction has this id.
        """
        with self._begin() as connection:
            for table in (self._digits, self._lines):
                connection.execute(
                    table.update()
                    .where(table.c.id == id, table.c.undone.is_(None))
                    .values(undone=_now())
                )
        return self.get(id)

    def get(self, id: str) -> Correction | LineCorrection | None:
        """Return one correction, undone or not; None if no correction has this id."""
        with self._begin(write=False) as connection:
            for table in (self._digits, self._lines):
                row = connection.execute(table.select().where(table.c.id == id)).one_or_none()
                if row is not None:
                    values = dict(row._mapping)
                    return _correction(values) if table is self._digits else _line(values)
        return None

    def list(
        self, *, label: str | None = None, undone: bool = False, limit: int = 100, offset: int = 0
    ) -> list[Correction]:
        """Return corrections, newest first.

        Args:
            label: only corrections with this label; None = all.
            undone: whether to include undone corrections.
            limit: number of rows, at most.
            offset: number of rows to skip.
        """
        wanted = [] if label is None else [self._digits.c.label == label]
        return [
            _correction(row) for row in self._newest(self._digits, wanted, undone, limit, offset)
        ]

    def lines(
        self, *, undone: bool = False, limit: int = 100, offset: int = 0
    ) -> Sequence[LineCorrection]:
        """Return corrections of lines, newest first; otherwise as `list`."""
        return [_line(row) for row in self._newest(self._lines, [], undone, limit, offset)]

    def _newest(
        self,
        table: "TableClause",
        wanted: "Sequence[ColumnElement[bool]]",
        undone: bool,
        limit: int,
        offset: int,
    ) -> Sequence[dict[str, Any]]:
        if not undone:
            wanted = [*wanted, table.c.undone.is_(None)]
        query = table.select().where(*wanted).order_by(table.c.created.desc(), table.c.id)
        with self._begin(write=False) as connection:
            rows = connection.execute(query.limit(limit).offset(offset))
            return [dict(row._mapping) for row in rows]

    def each_line(self) -> Iterator[LineCorrection]:
        """Yield every current correction of a line, oldest first."""
        for row in self._each(self._lines):
            yield _line(row)

    def each(self) -> Iterator[Correction]:
        """Yield every current correction, oldest first; 200 are read at a time."""
        for row in self._each(self._digits):
            yield _correction(row)

    def _each(self, table: "TableClause") -> Iterator[dict[str, Any]]:
        import sqlalchemy

        last = ("", "")
        while True:
            query = (
                table.select()
                .where(
                    table.c.undone.is_(None),
                    sqlalchemy.tuple_(table.c.created, table.c.id) > sqlalchemy.tuple_(*last),
                )
                .order_by(table.c.created, table.c.id)
                .limit(200)
            )
            with self._begin(write=False) as connection:
                rows = [dict(row._mapping) for row in connection.execute(query)]
            yield from rows
            if len(rows) < 200:
                return
            last = (rows[-1]["created"], rows[-1]["id"])

    def delete(self, ids: Sequence[str]) -> int:
        """Delete corrections with their pictures, and return how many were deleted."""
        with self._begin() as connection:
            return sum(
                int(connection.execute(table.delete().where(table.c.id.in_(ids))).rowcount)
                for table in (self._digits, self._lines)
            )

    def stats(self) -> Stats:
        """Return counts of the corrections."""
        from sqlalchemy import func, select

        table = self._digits
        is_current = table.c.undone.is_(None)
        with self._begin(write=False) as connection:
            every = connection.execute(select(func.count()).select_from(table)).scalar_one()
            rows = connection.execute(
                select(table.c.best_guess, table.c.label, func.count())
                .where(is_current)
                .group_by(table.c.best_guess, table.c.label)
            ).all()
            lines = connection.execute(
                select(func.count()).select_from(self._lines).where(self._lines.c.undone.is_(None))
            ).scalar_one()
        labels = dict.fromkeys(LABELS, 0)
        for _, label, count in rows:
            labels[label] += count
        total = sum(labels.values())
        wrong = [(int(guess), label, int(n)) for guess, label, n in rows if str(guess) != label]
        return Stats(
            count=total,
            undone=int(every) - total,
            labels={label: count for label, count in labels.items() if count},
            confusions=tuple(sorted(wrong, key=lambda row: (-row[2], row[0], row[1]))),
            agreeing=total - sum(count for _, _, count in wrong),
            lines=int(lines),
        )

    def check(self) -> None:
        """Check that the store answers and is not damaged.

        Raises:
            StoreError: it does not answer, or is damaged.
        """
        import sqlalchemy

        with self._begin(write=False) as connection:
            if self.is_sqlite:
                found = connection.execute(sqlalchemy.text("PRAGMA quick_check(1)")).scalar_one()
                if found != "ok":
                    raise StoreError("is damaged", where=self.address, remedy="restore a backup")
            else:
                connection.execute(sqlalchemy.select(1))

    def check_writable(self) -> None:
        """Check that a correction can be stored now, without writing anything.

        Raises:
            StoreFullError: the disk has too little free space.
            StoreError: the store does not answer, or cannot be written.
        """
        import sqlalchemy

        file = self._engine.url.database if self.is_sqlite else None
        if file is not None and not os.access(file, os.W_OK):
            # SQLite itself does not notice when an open file is deleted.
            raise StoreError(
                "cannot be written", where=self.address, remedy="check the file's permissions"
            )
        # Taking the writer's lock fails if the file or the server is read-only.
        with self._begin() as connection:
            connection.execute(self._digits.select().limit(0))
            if not self.is_sqlite and connection.execute(
                sqlalchemy.text("SHOW transaction_read_only")
            ).scalar_one() != "off":  # fmt: skip
                raise StoreError(
                    "is read-only", where=self.address, remedy="use the primary server"
                )
        if file is not None and shutil.disk_usage(Path(file).parent).free < LEAST_FREE_BYTES:
            raise StoreFullError("the disk is full", where=self.address, remedy="free some space")

    def close(self) -> None:
        """Release all connections."""
        self._engine.dispose()

    def _prepare(self) -> None:
        """Create or migrate the tables; refuse tables of a later version of digitry."""
        import sqlalchemy

        with self._begin(write=False) as connection:
            # The usual case. It takes no lock, so it does not wait for writers.
            if migrations.is_current(connection):
                return
        with self._begin() as connection:
            if not self.is_sqlite:
                # Otherwise two processes that start at once would both create the tables. The number
                # is arbitrary. SQLite has one writer at a time, so it needs no such lock.
                connection.execute(sqlalchemy.text("SELECT pg_advisory_xact_lock(7263482)"))
            try:
                migrations.upgrade(connection)
            except migrations.SchemaError as error:
                raise StoreError(error.what, where=self.address, remedy=error.remedy) from error

    @contextmanager
    def _begin(self, *, write: bool = True) -> "Iterator[Connection]":
        """Open a transaction; errors of the database are raised as StoreError."""
        from sqlalchemy import exc

        try:
            with self._engine.connect() as connection:
                connection.info["write"] = write
                with connection.begin():
                    yield connection
        except exc.IntegrityError:
            raise
        except exc.SQLAlchemyError as error:
            cause = " ".join(str(getattr(error, "orig", None) or error).split())[:160]
            if "is full" in cause or "No space left" in cause:
                raise StoreFullError(
                    "the disk is full",
                    where=self.address,
                    remedy="free some space; nothing was lost",
                ) from error
            raise StoreError(
                f"cannot be used ({cause})",
                where=self.address,
                remedy="check that the database is running and writable",
            ) from error


def open_store(db: str | None, *, create: bool = False) -> Corrections:
    """Return the store that `--db` names; a context manager that closes it.

    Args:
        db: a file or URL; None = the user's own store, which is created if it is missing.
        create: whether to create a missing file; if not, a mistyped name is an error.
    """
    return Corrections(db, create=create or db is None)


def _correction(row: dict[str, Any]) -> Correction:
    return Correction(**{**row, "glyph": bytes(row["glyph"]), "crop": bytes(row["crop"])})


def _line(row: dict[str, Any]) -> LineCorrection:
    box = tuple(int(part) for part in row["box"].split(","))
    return LineCorrection(**{**row, "strip": bytes(row["strip"]), "box": box})


def _pixels_sha256(picture: bytes) -> str:
    """Return the hash of a picture's pixels, independent of its encoding."""
    from digitry.fingerprint import sha256_of
    from digitry.reading import image

    return sha256_of(image.load(picture, name="glyph").gray)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
