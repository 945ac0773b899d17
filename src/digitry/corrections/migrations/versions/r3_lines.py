"""The table of corrected lines, beside that of corrected digits."""

import sqlalchemy
from alembic import op

revision = "r3"
down_revision = "r2"


def upgrade() -> None:
    """Create the table and its indexes; the corrections of digits do not change."""
    op.create_table(
        "digitry_corrected_lines",
        sqlalchemy.Column("id", sqlalchemy.String(24), primary_key=True),
        sqlalchemy.Column("created", sqlalchemy.String(32), nullable=False),
        sqlalchemy.Column("undone", sqlalchemy.String(32)),
        sqlalchemy.Column("sha256", sqlalchemy.String(64), nullable=False),
        sqlalchemy.Column("text", sqlalchemy.String(120), nullable=False),
        sqlalchemy.Column("read_text", sqlalchemy.String(400), nullable=False),
        sqlalchemy.Column("confidence", sqlalchemy.Float, nullable=False),
        sqlalchemy.Column("box", sqlalchemy.String(60), nullable=False),
        sqlalchemy.Column("model", sqlalchemy.String(200), nullable=False),
        sqlalchemy.Column("author", sqlalchemy.String(200), nullable=False),
        sqlalchemy.Column("strip", sqlalchemy.LargeBinary, nullable=False),
    )
    holds = sqlalchemy.text("undone IS NULL")
    op.create_index(
        "digitry_one_line_that_holds",
        "digitry_corrected_lines",
        ["sha256"],
        unique=True,
        sqlite_where=holds,
        postgresql_where=holds,
    )
    op.create_index("digitry_lines_by_time", "digitry_corrected_lines", ["created", "id"])
