"""Migrations of the store of corrections, run by Alembic when a store is opened.

Each change is a revision in `versions/`. A store records its revision in one table. A store made before
Alembic records its version in another table and counts as the first revision. An old store is migrated in
one transaction: completely or not at all.
"""

from typing import TYPE_CHECKING, Any

from digitry import extras
from digitry.errors import DigitryError

if TYPE_CHECKING:
    from sqlalchemy import Connection

FIRST, HEAD = "r1", "r3"
TABLE = "digitry_revision"
"""The table with the revision. Not Alembic's default name: other programs may use the same database."""

FORMER_TABLE = "digitry_schema"
FORMER_VERSION = 1


class SchemaError(DigitryError):
    """This version of digitry does not know the tables of a store."""


def is_current(connection: "Connection") -> bool:
    """Return whether the store is at the newest revision."""
    return bool(_revision(connection) == HEAD)


def upgrade(connection: "Connection") -> None:
    """Migrate the tables to the newest revision, or create them.

    Args:
        connection: in a transaction that holds an exclusive lock.

    Raises:
        SchemaError: the tables were made by a later version of digitry.
        UnavailableError: Alembic is missing.
    """
    extras.require("serve", "corrections need", "alembic")
    import sqlalchemy
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

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
        f"has tables of {found}; this version of digitry knows {known}",
        remedy="update digitry, or export with the version that made them and import here",
    )
