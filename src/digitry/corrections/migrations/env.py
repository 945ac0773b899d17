"""What Alembic runs for each command: on the connection that it was given, in its transaction."""

from alembic import context

from digitry.corrections.migrations import TABLE

context.configure(connection=context.config.attributes["connection"], version_table=TABLE)
with context.begin_transaction():
    context.run_migrations()
