"""Alembic's entry: runs the revisions on the connection that `ops.migrate` hands over."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table="schema_version",
    version_table_schema="withdrawals",
)
context.run_migrations()
