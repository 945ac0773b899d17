"""The table that said the version before Alembic did: two could come to say different things."""

import sqlalchemy
from alembic import op

revision = "r2"
down_revision = "r1"


def upgrade() -> None:
    """Take it away, where it is."""
    if sqlalchemy.inspect(op.get_bind()).has_table("digitry_schema"):
        op.drop_table("digitry_schema")
