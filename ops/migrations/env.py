"""Alembic's entry: runs the revisions on the connection that `ops.migrate` hands over, or prints them without one."""

from alembic import context

connection = context.config.attributes["connection"]
options = {"connection": connection} if connection is not None else {"dialect_name": "postgresql"}
context.configure(
    **options,
    as_sql=connection is None,
    literal_binds=connection is None,
    dialect_opts={"paramstyle": "named"},
    output_buffer=context.config.output_buffer,
    version_table="schema_version",
    version_table_schema="withdrawals",
)
context.run_migrations()
