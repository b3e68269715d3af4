"""many tenants

Quotas and suspension of organisations, scopes of keys, the audit log, usage a day, idempotency keys,
webhooks and their deliveries.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TRIGGERS = {
    "sqlite": (
        """CREATE TRIGGER audit_keeps_rows BEFORE UPDATE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END""",
        """CREATE TRIGGER audit_drops_nothing BEFORE DELETE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END""",
    ),
    "postgresql": (
        """CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$""",
        """CREATE TRIGGER audit_keeps_rows BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change()""",
    ),
}

# A cast rounds on Postgres and cuts on SQLite, where an old library has no floor().
_DAY = {
    "sqlite": "CAST(created_at / 86400 AS INTEGER)",
    "postgresql": "CAST(floor(created_at / 86400) AS INTEGER)",
}


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    op.add_column("orgs", sa.Column("suspended_at", sa.Double()))
    op.add_column("orgs", sa.Column("quotas", sa.Text()))
    op.add_column("keys", sa.Column("scopes", sa.Text(), nullable=False, server_default="*"))
    op.add_column("keys", sa.Column("made_by", sa.Text()))
    op.add_column("keys", sa.Column("successor_id", sa.Text()))
    op.add_column("jobs", sa.Column("priority", sa.Integer(), nullable=False, server_default="100"))
    op.add_column("jobs", sa.Column("reserved_micro_dollars", sa.BigInteger()))
    _tables()
    for statement in _TRIGGERS[dialect]:
        op.execute(statement)
    op.execute(
        f"""INSERT INTO usage (org_id, day, jobs, lines, bytes, reserved_micro_dollars,
            spent_micro_dollars)
        SELECT org_id, {_DAY[dialect]}, count(*), sum(line_count),
            sum(input_bytes + coalesce(output_bytes, 0)), 0, sum(coalesce(cost_micro_dollars, 0))
        FROM jobs GROUP BY 1, 2"""
    )


def _tables() -> None:
    op.create_table(
        "audit",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("object", sa.Text(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["orgs.id"], name=op.f("fk_audit_org_id")),
        sa.PrimaryKeyConstraint("org_id", "number", name=op.f("pk_audit")),
    )
    op.create_table(
        "usage",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("jobs", sa.BigInteger(), nullable=False),
        sa.Column("lines", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("reserved_micro_dollars", sa.BigInteger(), nullable=False),
        sa.Column("spent_micro_dollars", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "jobs >= 0 AND lines >= 0 AND bytes >= 0 AND reserved_micro_dollars >= 0 "
            "AND spent_micro_dollars >= 0",
            name=op.f("ck_usage_never_negative"),
        ),
        sa.ForeignKeyConstraint(["org_id"], ["orgs.id"], name=op.f("fk_usage_org_id")),
        sa.PrimaryKeyConstraint("org_id", "day", name=op.f("pk_usage")),
    )
    op.create_table(
        "idempotency",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.Column("fingerprint", sa.Text()),
        sa.ForeignKeyConstraint(["org_id"], ["orgs.id"], name=op.f("fk_idempotency_org_id")),
        sa.PrimaryKeyConstraint("org_id", "route", "key", name=op.f("pk_idempotency")),
    )
    op.create_index("ix_idempotency_created_at", "idempotency", ["created_at"])
    op.create_table(
        "webhooks",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("events", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("old_secret", sa.Text()),
        sa.Column("old_secret_until", sa.Double()),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("failing_since", sa.Double()),
        sa.Column("disabled_at", sa.Double()),
        sa.Column("disabled_reason", sa.Text()),
        sa.Column("deleted_at", sa.Double()),
        sa.ForeignKeyConstraint(["org_id"], ["orgs.id"], name=op.f("fk_webhooks_org_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
    )
    op.create_index("ix_webhooks_org_id", "webhooks", ["org_id"])
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("webhook_id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("next_at", sa.Double()),
        sa.Column("claim", sa.Text()),
        sa.Column("delivered_at", sa.Double()),
        sa.Column("given_up_at", sa.Double()),
        sa.Column("last_status", sa.Integer()),
        sa.Column("last_error", sa.Text()),
        sa.UniqueConstraint("webhook_id", "job_id", "kind", name="uq_deliveries_event"),
        sa.ForeignKeyConstraint(["webhook_id"], ["webhooks.id"], name=op.f("fk_deliveries_webhook_id")),
        sa.ForeignKeyConstraint(["org_id"], ["orgs.id"], name=op.f("fk_deliveries_org_id")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_deliveries_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
    )
    op.create_index("ix_deliveries_next_at", "deliveries", ["next_at"])
    op.create_index("ix_deliveries_webhook_created", "deliveries", ["webhook_id", "created_at", "id"])
