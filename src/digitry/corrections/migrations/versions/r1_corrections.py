"""The table of corrections, as it was before Alembic."""

import sqlalchemy
from alembic import op

revision = "r1"
down_revision = None


def upgrade() -> None:
    """Create the table and its indexes."""
    op.create_table(
        "digitry_corrections",
        sqlalchemy.Column("id", sqlalchemy.String(24), primary_key=True),
        sqlalchemy.Column("created", sqlalchemy.String(32), nullable=False),
        sqlalchemy.Column("undone", sqlalchemy.String(32)),
        sqlalchemy.Column("sha256", sqlalchemy.String(64), nullable=False),
        sqlalchemy.Column("label", sqlalchemy.String(16), nullable=False),
        sqlalchemy.Column("read_value", sqlalchemy.Integer),
        sqlalchemy.Column("best_guess", sqlalchemy.Integer, nullable=False),
        sqlalchemy.Column("confidence", sqlalchemy.Float, nullable=False),
        sqlalchemy.Column("reason", sqlalchemy.String(100)),
        sqlalchemy.Column("model", sqlalchemy.String(200), nullable=False),
        sqlalchemy.Column("glyph_version", sqlalchemy.Integer, nullable=False),
        sqlalchemy.Column("author", sqlalchemy.String(200), nullable=False),
        sqlalchemy.Column("glyph", sqlalchemy.LargeBinary, nullable=False),
        sqlalchemy.Column("crop", sqlalchemy.LargeBinary, nullable=False),
        sqlalchemy.UniqueConstraint("sha256", "created", "id"),
    )
    holds = sqlalchemy.text("undone IS NULL")
    op.create_index(
        "digitry_one_that_holds",
        "digitry_corrections",
        ["sha256"],
        unique=True,
        sqlite_where=holds,
        postgresql_where=holds,
    )
    op.create_index("digitry_by_time", "digitry_corrections", ["created", "id"])
