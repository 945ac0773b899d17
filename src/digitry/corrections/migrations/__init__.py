"""The schema of the store of corrections, moved by Alembic whenever a store is opened.

Each change is a revision in `versions/`. A store says in one table which revision it is at; one from the
time before Alembic says its version in another, and is taken for the first revision. A store that is
behind is brought up in the transaction that found it so: either all of it, or nothing.
"""

from typing import TYPE_CHECKING, Any

from digitry.errors import DigitryError, UnavailableError

if TYPE_CHECKING:
    from sqlalchemy import Connection

FIRST, HEAD = "r1", "r2"
TABLE = "digitry_revision"
"""Where a store says its revision. Not Alembic's own name for it: a database may hold others' tables."""

FORMER_TABLE = "digitry_schema"
FORMER_VERSION = 1


class SchemaError(DigitryError):
    """The tables of a store are not of a form that this digitry knows."""


def is_current(connection: "Connection") -> bool:
    """Tell whether there is nothing to do, with one look."""
    return bool(_revision(connection) == HEAD)


def upgrade(connection: "Connection") -> None:
    """Bring the tables to the form that this digitry wants; make them where there are none.

    Args:
        connection: within a transaction that nobody else can be in at the same time.

    Raises:
        SchemaError: they are of a later digitry.
        UnavailableError: Alembic is missing.
    """
    import sqlalchemy

    try:
        from alembic import command
        from alembic.config import Config
        from alembic.script import ScriptDirectory
    except ModuleNotFoundError as error:
        raise UnavailableError(
            "corrections need the extra `serve`", remedy="pip install 'digitry[serve]'"
        ) from error

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "digitry.corrections:migrations")
    found = _revision(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise _later(f"revision {found}", f"revision {HEAD}")
    if found is None and sqlalchemy.inspect(connection).has_table(FORMER_TABLE):
        version = connection.execute(
            sqlalchemy.text(f"SELECT version FROM {FORMER_TABLE}")
        ).scalar_one_or_none()
        if version not in (FORMER_VERSION, None):
            raise _later(f"version {version}", f"revision {HEAD}")
        command.stamp(config, FIRST)
    command.upgrade(config, "head")


def _revision(connection: "Connection") -> Any:
    import sqlalchemy

    if not sqlalchemy.inspect(connection).has_table(TABLE):
        return None
    rows = connection.execute(sqlalchemy.text(f"SELECT version_num FROM {TABLE}")).scalars().all()
    return rows[0] if rows else None


def _later(found: str, known: str) -> SchemaError:
    return SchemaError(
        f"has tables of {found}; this digitry knows {known}",
        remedy="use the digitry that made them, or export there and import here",
    )
