"""lines and money

What became of each line, rounds and shards of a job, its options, estimate and bill; reservations
and refunds in the ledger.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# SQLite copies a table to change its constraints, and forgets the triggers of the old one.
_TRIGGERS = (
    """CREATE TRIGGER ledger_keeps_entries BEFORE UPDATE ON ledger
        BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END""",
    """CREATE TRIGGER ledger_drops_nothing BEFORE DELETE ON ledger
        BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END""",
)

# What was set aside before the ledger knew of it, so that the end of the job can give it back.
_RESERVED = """INSERT INTO ledger (org_id, job_id, attempt, round, kind, at, lines, prompt_tokens,
        output_tokens, micro_dollars)
    SELECT org_id, id, attempt, 1, 'reserved', created_at, line_count, 0, 0, reserved_micro_dollars
    FROM jobs WHERE finished_at IS NULL AND reserved_micro_dollars IS NOT NULL"""


def upgrade() -> None:
    for column in _jobs():
        op.add_column("jobs", column)
    # Lists leave shards out, and read nothing but these indexes.
    op.drop_index("ix_jobs_org_created", "jobs")
    op.drop_index("ix_jobs_org_state_created", "jobs")
    newest = ["created_at", "id", "parent_id"]
    op.create_index("ix_jobs_org_created", "jobs", ["org_id", *newest])
    op.create_index("ix_jobs_org_state_created", "jobs", ["org_id", "state", *newest])
    op.create_index("ix_jobs_parent_id", "jobs", ["parent_id"])
    op.create_index("ix_jobs_model_finished", "jobs", ["model", "finished_at"])
    op.add_column("attempts", sa.Column("round", sa.Integer(), nullable=False, server_default="1"))
    with op.batch_alter_table("ledger") as batch:
        batch.add_column(sa.Column("round", sa.Integer(), nullable=False, server_default="1"))
        batch.drop_constraint("uq_ledger_entry", type_="unique")
        batch.create_unique_constraint("uq_ledger_entry", ["job_id", "round", "kind"])
    op.create_index("ix_ledger_org_at", "ledger", ["org_id", "at"])
    with op.batch_alter_table("deliveries") as batch:
        batch.add_column(sa.Column("round", sa.Integer(), nullable=False, server_default="1"))
        batch.drop_constraint("uq_deliveries_event", type_="unique")
        batch.create_unique_constraint(
            "uq_deliveries_event", ["webhook_id", "job_id", "round", "kind"]
        )
    if op.get_bind().dialect.name == "sqlite":
        for statement in _TRIGGERS:
            op.execute(statement)
    op.execute(_RESERVED)


def _jobs() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("options", sa.Text(), nullable=False, server_default="{}"),
        sa.Column("parent_id", sa.Text()),
        sa.Column("first_line", sa.BigInteger()),
        sa.Column("last_line", sa.BigInteger()),
        sa.Column("round", sa.Integer(), nullable=False, server_default="1"),
        sa.Column("round_began_at", sa.Double()),
        sa.Column("selection", sa.Text()),
        sa.Column("settled_state", sa.Text()),
        sa.Column("index_name", sa.Text()),
        sa.Column("twin_count", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("problem_count", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("bill", sa.Text()),
        sa.Column("estimate", sa.Text()),
        sa.Column("provider_state_since", sa.Double()),
        sa.Column("slow_at", sa.Double()),
        sa.Column("partial_wanted_at", sa.Double()),
        sa.Column("partial_at", sa.Double()),
        sa.Column("partial_name", sa.Text()),
        sa.Column("partial_index_name", sa.Text()),
        sa.Column("partial_lines", sa.BigInteger()),
    )
