"""The schema of the store: created, migrated from older ones, refused if made by a later version."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("alembic", reason="the extra `serve` is not installed")

import sqlalchemy
from alembic.config import Config
from alembic.script import ScriptDirectory

from digitry.corrections import database, migrations
from digitry.corrections.correction import LONGEST_AUTHOR, LONGEST_TEXT
from digitry.corrections.database import StoreError
from digitry.corrections.store import Corrections

from ..processes import forked
from ..waiting import PATIENCE_S
from .test_store import correction, postgresql  # noqa: F401 (a fixture)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'corrections.db'}"
        return
    server = str(request.getfixturevalue("postgresql"))
    own = server.rpartition("/")[0] + "/own"
    run(server, "DROP DATABASE IF EXISTS own WITH (FORCE)", "CREATE DATABASE own")
    yield own


def run(url: str, *lines: str) -> None:
    """Run SQL on a database directly."""
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for line in lines:
            connection.execute(sqlalchemy.text(line))
    engine.dispose()


def tables(url: str) -> set[str]:
    engine = sqlalchemy.create_engine(url)
    names = set(sqlalchemy.inspect(engine).get_table_names())
    engine.dispose()
    return names


def revision(url: str) -> list[str]:
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        text = sqlalchemy.text(f"SELECT version_num FROM {migrations.TABLE}")
        found = list(connection.execute(text).scalars())
    engine.dispose()
    return found


def make_former(url: str, version: int | None = 1) -> None:
    """Create the tables of digitry from before Alembic, with one correction."""
    blob = "BLOB" if url.startswith("sqlite") else "BYTEA"
    run(
        url,
        "CREATE TABLE digitry_schema (version INTEGER NOT NULL PRIMARY KEY)",
        f"""CREATE TABLE digitry_corrections (
            id VARCHAR(24) NOT NULL PRIMARY KEY, created VARCHAR(32) NOT NULL, undone VARCHAR(32),
            sha256 VARCHAR(64) NOT NULL, label VARCHAR(16) NOT NULL, read_value INTEGER,
            best_guess INTEGER NOT NULL, confidence FLOAT NOT NULL, reason VARCHAR(100),
            model VARCHAR(200) NOT NULL, glyph_version INTEGER NOT NULL, author VARCHAR(200) NOT NULL,
            glyph {blob} NOT NULL, crop {blob} NOT NULL, UNIQUE (sha256, created, id))""",
        "CREATE UNIQUE INDEX digitry_one_that_holds ON digitry_corrections (sha256) "
        "WHERE undone IS NULL",
        "CREATE INDEX digitry_by_time ON digitry_corrections (created, id)",
        *([f"INSERT INTO digitry_schema VALUES ({version})"] if version is not None else []),
    )


def keep_one(url: str) -> None:
    row = correction(1)
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.execute(
            sqlalchemy.text(
                "INSERT INTO digitry_corrections VALUES (:id, '2026-01-01T00:00:00.000000Z', NULL, "
                "'ab', '7', 1, 1, 0.62, NULL, 'reader', 1, 'Ada', :glyph, :crop)"
            ),
            {"id": "1" * 24, "glyph": row.glyph, "crop": row.crop},
        )
    engine.dispose()


def test_a_new_store_is_at_the_newest_revision(url: str) -> None:
    Corrections(url).close()
    assert revision(url) == [migrations.HEAD]
    assert tables(url) == {"digitry_corrections", "digitry_corrected_lines", migrations.TABLE}


def test_the_migrations_create_the_columns_of_the_code(url: str) -> None:
    Corrections(url).close()
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        for table in database.tables():
            made = sqlalchemy.inspect(connection).get_columns(table.name)
            assert {column["name"] for column in made} == set(table.c.keys())
            # What may be empty is what the code may leave empty.
            empty = {column["name"] for column in made if column["nullable"]}
            assert empty == {"undone", "read_value", "reason"} & set(table.c.keys())
            lengths = {column["name"]: getattr(column["type"], "length", None) for column in made}
            assert lengths["author"] == LONGEST_AUTHOR
            assert lengths.get("text", LONGEST_TEXT) == LONGEST_TEXT
    engine.dispose()


@pytest.mark.parametrize("table", ["digitry_corrections", "digitry_corrected_lines"])
def test_the_database_keeps_one_current_correction_of_a_picture(url: str, table: str) -> None:
    Corrections(url).close()
    engine = sqlalchemy.create_engine(url)
    indexes = sqlalchemy.inspect(engine).get_indexes(table)
    engine.dispose()
    (holds,) = [
        index for index in indexes if index["column_names"] == ["sha256"] and index["unique"]
    ]
    where = next(value for key, value in holds["dialect_options"].items() if "where" in key)
    assert "undone IS NULL" in str(where)


def test_head_is_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", "digitry.corrections:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [migrations.HEAD]


def test_a_store_from_before_alembic_is_migrated_with_its_corrections(url: str) -> None:
    make_former(url)
    keep_one(url)
    store = Corrections(url)
    (kept,) = store.list()
    assert (kept.label, kept.author, kept.glyph) == ("7", "Ada", correction(1).glyph)
    store.add(correction(2))
    store.close()
    assert revision(url) == [migrations.HEAD]
    assert tables(url) == {"digitry_corrections", "digitry_corrected_lines", migrations.TABLE}


def test_a_store_of_a_later_version_is_refused_and_not_changed(url: str) -> None:
    Corrections(url).close()
    run(url, f"UPDATE {migrations.TABLE} SET version_num = 'r99'")
    with pytest.raises(
        StoreError, match="revision r99; this version of digitry knows revision"
    ) as error:
        Corrections(url)
    assert "\n" not in str(error.value)
    assert revision(url) == ["r99"]


def test_a_later_version_from_before_alembic_is_refused(url: str) -> None:
    make_former(url, 2)
    with pytest.raises(StoreError, match="version 2; this version of digitry knows revision"):
        Corrections(url)
    assert migrations.TABLE not in tables(url)


def test_a_partly_created_store_is_completed(url: str) -> None:
    make_former(url, None)
    Corrections(url).close()
    assert revision(url) == [migrations.HEAD]


def test_a_failed_migration_does_not_change_the_store(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_former(url)
    keep_one(url)
    from alembic import command

    upgrade = command.upgrade

    def fail(*arguments: Any) -> None:
        upgrade(*arguments)
        raise sqlalchemy.exc.OperationalError("the power", {}, Exception("went out"))

    with monkeypatch.context() as patch, pytest.raises(StoreError):
        patch.setattr(command, "upgrade", fail)
        Corrections(url)
    assert tables(url) == {"digitry_corrections", "digitry_schema"}
    store = Corrections(url)
    assert len(store.list()) == 1
    store.close()


def test_other_tables_in_the_same_database_are_not_changed(url: str) -> None:
    run(url, "CREATE TABLE alembic_version (version_num VARCHAR(32))")
    run(url, "INSERT INTO alembic_version VALUES ('theirs')", "CREATE TABLE theirs (x INTEGER)")
    Corrections(url).close()
    assert tables(url) >= {"alembic_version", "theirs"}
    Corrections(url).close()


def _open(url: str, start: Any, told: Any) -> None:
    start.wait(PATIENCE_S)
    try:
        store = Corrections(url)
        store.add(correction(1))
        store.close()
        told.put(None)
    except Exception as error:  # noqa: BLE001 (handed to the test)
        told.put(repr(error))


@pytest.mark.parametrize("former", [True, False])
def test_processes_that_open_a_store_at_once_create_it_once(former: bool, url: str) -> None:
    if former:
        make_former(url)
    context = forked()
    start, told = context.Event(), context.Queue()
    openers = [context.Process(target=_open, args=(url, start, told)) for _ in range(4)]
    for opener in openers:
        opener.start()
    start.set()
    assert [told.get(timeout=PATIENCE_S) for _ in openers] == [None] * 4
    for opener in openers:
        opener.join(PATIENCE_S)

    def more(_: int) -> None:
        Corrections(url).close()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(more, range(8)))
    store = Corrections(url)
    assert len(store.list()) == 1
    store.check()
    store.close()
    assert revision(url) == [migrations.HEAD]


def test_a_current_store_can_be_opened_during_a_write(tmp_path: Path) -> None:
    path = tmp_path / "corrections.db"
    Corrections(str(path)).close()
    with sqlite3.connect(path) as writer:
        writer.execute("BEGIN IMMEDIATE")
        store = Corrections(str(path))
        assert store.list() == []
        store.close()
    writer.close()
