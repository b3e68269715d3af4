"""The schema, once. Migrations are checked against it by a test.

Times are seconds since the epoch (double), money is micro-dollars (integer), ids are text.
"""

import sqlalchemy as sa

from penstock.core.state import TERMINAL, JobState

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# Text instead of a native enum: Postgres enums cannot lose a value and SQLite has none.
_STATES = ", ".join(f"'{state}'" for state in JobState)
_TERMINAL = ", ".join(f"'{state}'" for state in sorted(TERMINAL))

orgs = sa.Table(
    "orgs",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("created_at", sa.Double, nullable=False),
)

users = sa.Table(
    "users",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
)

memberships = sa.Table(
    "memberships",
    metadata,
    sa.Column("org_id", sa.ForeignKey("orgs.id"), primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id"), primary_key=True),
    sa.Column("role", sa.Text, nullable=False),
)

keys = sa.Table(
    "keys",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("org_id", sa.ForeignKey("orgs.id"), nullable=False),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    # HMAC-SHA256 of the whole key under a derived secret; the key itself is shown once.
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double),
    sa.Column("revoked_at", sa.Double),
    sa.Column("last_used_at", sa.Double),
)

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("org_id", sa.ForeignKey("orgs.id"), nullable=False),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False),
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("line_count", sa.BigInteger, nullable=False),
    sa.Column("input_bytes", sa.BigInteger, nullable=False),
    sa.Column("input_sha256", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("updated_at", sa.Double, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
    sa.Column("run", sa.Integer, nullable=False, server_default="0"),
    sa.Column("status_detail", sa.Text, nullable=False, server_default=""),
    sa.Column("cancel_requested_at", sa.Double),
    sa.Column("running_since", sa.Double),
    sa.Column("finished_at", sa.Double),
    sa.Column("stop_reason", sa.Text),
    sa.Column("provider_input", sa.Text),
    sa.Column("provider_job", sa.Text),
    sa.Column("provider_state", sa.Text),
    sa.Column("provider_output", sa.Text),
    sa.Column("counts", sa.Text),
    sa.Column("cost_micro_dollars", sa.BigInteger),
    sa.Column("output_bytes", sa.BigInteger),
    sa.Column("output_sha256", sa.Text),
    sa.Column("output_name", sa.Text),
    sa.Column("error_code", sa.Text),
    sa.Column("error_message", sa.Text),
    sa.CheckConstraint(f"state IN ({_STATES})", name="state_known"),
    sa.CheckConstraint(
        f"(state IN ({_TERMINAL})) = (finished_at IS NOT NULL)", name="finished_is_terminal"
    ),
    sa.CheckConstraint(
        "state NOT IN ('running', 'collecting') OR provider_job IS NOT NULL",
        name="running_has_provider_job",
    ),
    # Newest first within a tenant is the only order that lists use (the index is read backwards);
    # the id breaks ties.
    sa.Index("ix_jobs_org_created", "org_id", "created_at", "id"),
    # The same within a state: a late page of a filtered list reads nothing but what it skips.
    sa.Index("ix_jobs_org_state_created", "org_id", "state", "created_at", "id"),
    sa.Index("ix_jobs_open", "state", "updated_at"),
)

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("job_id", sa.ForeignKey("jobs.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("intent_at", sa.Double, nullable=False),
    sa.Column("input_uri", sa.Text, nullable=False),
    sa.Column("output_prefix", sa.Text, nullable=False),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("provider_job", sa.Text),
    sa.Column("fenced_at", sa.Double),
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("job_id", sa.ForeignKey("jobs.id"), nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Index("ix_events_job", "job_id", "id"),
)

ledger = sa.Table(
    "ledger",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("org_id", sa.ForeignKey("orgs.id"), nullable=False),
    sa.Column("job_id", sa.ForeignKey("jobs.id"), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("lines", sa.BigInteger, nullable=False),
    sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
    sa.Column("output_tokens", sa.BigInteger, nullable=False),
    # NULL means that the model's price is unknown, which is never the same as zero.
    sa.Column("micro_dollars", sa.BigInteger),
    # Append-only and unique, so that no replay can bill an attempt twice.
    sa.UniqueConstraint("job_id", "attempt", "kind", name="uq_ledger_entry"),
    sa.CheckConstraint(
        "lines >= 0 AND prompt_tokens >= 0 AND output_tokens >= 0 AND micro_dollars >= 0",
        name="never_negative",
    ),
)

for _dialect, _statement in (
    (
        "sqlite",
        """CREATE TRIGGER ledger_keeps_entries BEFORE UPDATE ON ledger
        BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END""",
    ),
    (
        "sqlite",
        """CREATE TRIGGER ledger_drops_nothing BEFORE DELETE ON ledger
        BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END""",
    ),
    (
        "postgresql",
        """CREATE FUNCTION refuse_ledger_change() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'the ledger is append-only'; END $$""",
    ),
    (
        "postgresql",
        """CREATE TRIGGER ledger_keeps_entries BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_ledger_change()""",
    ),
):
    # The migrations say the same in the same words; a test compares.
    _made = sa.DDL(_statement)  # type: ignore[no-untyped-call]  # SQLAlchemy has no types there
    sa.event.listen(ledger, "after_create", _made.execute_if(dialect=_dialect))

workers = sa.Table(
    "workers",
    metadata,
    sa.Column("executor_id", sa.Text, primary_key=True),
    sa.Column("started_at", sa.Double, nullable=False),
    sa.Column("heartbeat_at", sa.Double, nullable=False),
)
