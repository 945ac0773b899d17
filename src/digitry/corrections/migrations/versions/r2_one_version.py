"""Drop the version table from before Alembic, so that only one table records the version."""

import sqlalchemy
from alembic import op

revision = "r2"
down_revision = "r1"


def upgrade() -> None:
    """Drop the table if it exists."""
    if sqlalchemy.inspect(op.get_bind()).has_table("digitry_schema"):
        op.drop_table("digitry_schema")
