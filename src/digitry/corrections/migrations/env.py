"""The script that Alembic runs for each command, on the given connection and in its transaction."""

from alembic import context

from digitry.corrections.migrations import TABLE

context.configure(connection=context.config.attributes["connection"], version_table=TABLE)
with context.begin_transaction():
    context.run_migrations()
