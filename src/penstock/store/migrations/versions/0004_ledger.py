"""append-only ledger

The database itself refuses to change or remove an entry of the ledger, and one that is negative.

Revision ID: 0004
Revises: 0003
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_CHECK = "lines >= 0 AND prompt_tokens >= 0 AND output_tokens >= 0 AND micro_dollars >= 0"

_TRIGGERS = {
    "sqlite": (
        """CREATE TRIGGER ledger_keeps_entries BEFORE UPDATE ON ledger
        BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END""",
        """CREATE TRIGGER ledger_drops_nothing BEFORE DELETE ON ledger
        BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END""",
    ),
    "postgresql": (
        """CREATE FUNCTION refuse_ledger_change() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'the ledger is append-only'; END $$""",
        """CREATE TRIGGER ledger_keeps_entries BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_ledger_change()""",
    ),
}


def upgrade() -> None:
    # SQLite copies the table for this, so the triggers come after it.
    with op.batch_alter_table("ledger") as batch:
        batch.create_check_constraint(batch.f("ck_ledger_never_negative"), _CHECK)
    for statement in _TRIGGERS[op.get_bind().dialect.name]:
        op.execute(statement)
