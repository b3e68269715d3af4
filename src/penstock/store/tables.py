"""The schema, once. Migrations are checked against it by a test.

Times are seconds since the epoch (double), money is micro-dollars (integer), ids are text.
"""

import sqlalchemy as sa

from penstock.core.state import TERMINAL, JobState
from penstock.store import tallies

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
    # Nobody of a suspended organisation gets in, and its download links are dead.
    sa.Column("suspended_at", sa.Double),
    # JSON of the quotas that differ from the settings; NULL means that none does.
    sa.Column("quotas", sa.Text),
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
    # Names with spaces between them; `*` is all that its owner's role may do.
    sa.Column("scopes", sa.Text, nullable=False, server_default="*"),
    # The user who made it; NULL for one that was made on the server itself.
    sa.Column("made_by", sa.Text),
    # The key that replaced it at a rotation; both work until `expires_at`.
    sa.Column("successor_id", sa.Text),
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
    # Within its organisation: the lowest number goes first.
    sa.Column("priority", sa.Integer, nullable=False, server_default="100"),
    # What its end gives back to the organisation's budget; NULL for a price that nobody knows.
    sa.Column("reserved_micro_dollars", sa.BigInteger),
    # What its owner wants of it beside the model: JSON of `core.options.Options`.
    sa.Column("options", sa.Text, nullable=False, server_default="{}"),
    # Of a shard: the job whose lines it answers, and which of them. No tenant sees shards.
    sa.Column("parent_id", sa.Text),
    sa.Column("first_line", sa.BigInteger),
    sa.Column("last_line", sa.BigInteger),
    # How often lines were sent, the first time included, and since when for this time.
    sa.Column("round", sa.Integer, nullable=False, server_default="1"),
    sa.Column("round_began_at", sa.Double),
    # Of a later round: JSON of the lines that are sent again, and where the job goes back to if
    # nothing comes of it.
    sa.Column("selection", sa.Text),
    sa.Column("settled_state", sa.Text),
    # The row index that belongs to the output, a file of the job's.
    sa.Column("index_name", sa.Text),
    # Lines whose request another line has as well: they get its answer and are not paid.
    sa.Column("twin_count", sa.BigInteger, nullable=False, server_default="0"),
    # Lines that were put aside because they are bad.
    sa.Column("problem_count", sa.BigInteger, nullable=False, server_default="0"),
    # JSON of `core.bill.Bill` and of `core.estimate.Estimate`.
    sa.Column("bill", sa.Text),
    sa.Column("estimate", sa.Text),
    sa.Column("provider_state_since", sa.Double),
    # When somebody was told that it takes longer than others do.
    sa.Column("slow_at", sa.Double),
    # A look at what the provider has so far: who wants one writes the wish.
    sa.Column("partial_wanted_at", sa.Double),
    sa.Column("partial_at", sa.Double),
    sa.Column("partial_name", sa.Text),
    sa.Column("partial_index_name", sa.Text),
    sa.Column("partial_lines", sa.BigInteger),
    # What its owner calls it. Labels are JSON here, and `job_labels` finds jobs by them.
    sa.Column("name", sa.Text),
    sa.Column("labels", sa.Text, nullable=False, server_default="{}"),
    sa.CheckConstraint(f"state IN ({_STATES})", name="state_known"),
    sa.CheckConstraint(
        f"(state IN ({_TERMINAL})) = (finished_at IS NOT NULL)", name="finished_is_terminal"
    ),
    sa.CheckConstraint(
        "state NOT IN ('running', 'collecting') OR provider_job IS NOT NULL",
        name="running_has_provider_job",
    ),
    # Newest first within a tenant is the only order that lists use (the index is read backwards);
    # the id breaks ties. All that jobs are filtered by is in it but labels, so that a list steps
    # over them without a look at their rows.
    sa.Index("ix_jobs_org_created", "org_id", "created_at", "id", "parent_id", "state", "name"),
    # The same within a state: a late page of a filtered list reads nothing but what it skips.
    sa.Index("ix_jobs_org_state_created", "org_id", "state", "created_at", "id", "parent_id"),
    sa.Index("ix_jobs_open", "state", "updated_at"),
    sa.Index("ix_jobs_parent_id", "parent_id"),
    # How long the last jobs of a model waited and ran.
    sa.Index("ix_jobs_model_finished", "model", "finished_at"),
    # Found by name or by the beginning of one, in the order of lists within a name. On Postgres
    # beginnings are compared byte by byte, because a language's order keeps no text together.
    sa.Index(
        "ix_jobs_org_name",
        "org_id",
        "name",
        "created_at",
        "id",
        "parent_id",
        "state",
        sqlite_where=sa.text("name IS NOT NULL"),
        postgresql_where=sa.text("name IS NOT NULL"),
        postgresql_ops={"name": "text_pattern_ops"},
    ),
    # Found by the beginning of the id.
    sa.Index(
        "ix_jobs_org_id",
        "org_id",
        "id",
        "created_at",
        "parent_id",
        postgresql_ops={"id": "text_pattern_ops"},
    ),
)

job_labels = sa.Table(
    "job_labels",
    metadata,
    sa.Column("job_id", sa.ForeignKey("jobs.id"), primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    # As in the job's row, where neither ever changes.
    sa.Column("org_id", sa.ForeignKey("orgs.id"), nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    # As in the job's row, too, for filters beside this label: a list reads nothing but this index.
    # The state follows the job's by a trigger (`store/tallies`).
    sa.Column("state", sa.Text, nullable=False, server_default=""),
    sa.Column("name", sa.Text),
    # All labels of the job. NULL if they and the name are too long for an index: then both are
    # looked up.
    sa.Column("labels", sa.Text),
    sa.Index(
        "ix_job_labels_org_key",
        "org_id",
        "key",
        "value",
        "created_at",
        "job_id",
        "state",
        "name",
        "labels",
    ),
)

job_counts = sa.Table(
    "job_counts",
    metadata,
    # Sums of what a tenant sees, by state; with a label, over the jobs that have it. Written by
    # triggers alone (`store/tallies`).
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, primary_key=True),
    # One of several rows that make a sum, on Postgres; which of them may be below zero.
    sa.Column("slot", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("jobs", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
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
    sa.Column("round", sa.Integer, nullable=False, server_default="1"),
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
    sa.Column("round", sa.Integer, nullable=False, server_default="1"),
    # `reserved` when a round begins; `usage` and what is `refunded` of the former when it ends.
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("lines", sa.BigInteger, nullable=False),
    sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
    sa.Column("output_tokens", sa.BigInteger, nullable=False),
    # NULL means that the model's price is unknown, which is never the same as zero.
    sa.Column("micro_dollars", sa.BigInteger),
    # Append-only and unique, so that no replay can bill a round twice.
    sa.UniqueConstraint("job_id", "round", "kind", name="uq_ledger_entry"),
    sa.CheckConstraint(
        "lines >= 0 AND prompt_tokens >= 0 AND output_tokens >= 0 AND micro_dollars >= 0",
        name="never_negative",
    ),
    # What an organisation used in a span of time.
    sa.Index("ix_ledger_org_at", "org_id", "at"),
)

audit = sa.Table(
    "audit",
    metadata,
    # One chain an organisation: each row's hash covers the row before it.
    sa.Column("org_id", sa.ForeignKey("orgs.id"), primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("object", sa.Text, nullable=False),
    sa.Column("result", sa.Text, nullable=False),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
)

usage = sa.Table(
    "usage",
    metadata,
    # Sums over the jobs that the organisation submitted on one day, in whatever state they are.
    sa.Column("org_id", sa.ForeignKey("orgs.id"), primary_key=True),
    # Days since the epoch, UTC.
    sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("jobs", sa.BigInteger, nullable=False),
    sa.Column("lines", sa.BigInteger, nullable=False),
    # Inputs and outputs that are stored.
    sa.Column("bytes", sa.BigInteger, nullable=False),
    # Of jobs that have not ended.
    sa.Column("reserved_micro_dollars", sa.BigInteger, nullable=False),
    sa.Column("spent_micro_dollars", sa.BigInteger, nullable=False),
    sa.CheckConstraint(
        "jobs >= 0 AND lines >= 0 AND bytes >= 0 AND reserved_micro_dollars >= 0 "
        "AND spent_micro_dollars >= 0",
        name="never_negative",
    ),
)

idempotency = sa.Table(
    "idempotency",
    metadata,
    sa.Column("org_id", sa.ForeignKey("orgs.id"), primary_key=True),
    sa.Column("route", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    # Chosen before anything is done, so that a second try cannot make a second job.
    sa.Column("job_id", sa.Text, nullable=False),
    # Who works on it; whoever takes over writes his own, and the first one commits nothing more.
    sa.Column("token", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    # The last sign of life of who works on it.
    sa.Column("seen_at", sa.Double, nullable=False),
    # Of what was submitted; NULL while it is in flight.
    sa.Column("fingerprint", sa.Text),
    sa.Index("ix_idempotency_created_at", "created_at"),
)

webhooks = sa.Table(
    "webhooks",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("org_id", sa.ForeignKey("orgs.id"), nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    # Kinds of events with spaces between them; `*` is all.
    sa.Column("events", sa.Text, nullable=False),
    # Encrypted under a derived key, because signing needs the secret itself.
    sa.Column("secret", sa.Text, nullable=False),
    # Before the rotation; signs as well until then.
    sa.Column("old_secret", sa.Text),
    sa.Column("old_secret_until", sa.Double),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    # Since when no delivery has worked; NULL while they do.
    sa.Column("failing_since", sa.Double),
    sa.Column("disabled_at", sa.Double),
    sa.Column("disabled_reason", sa.Text),
    sa.Column("deleted_at", sa.Double),
    sa.Index("ix_webhooks_org_id", "org_id"),
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    # Sent as `webhook-id`, the same at every try.
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("webhook_id", sa.ForeignKey("webhooks.id"), nullable=False),
    sa.Column("org_id", sa.ForeignKey("orgs.id"), nullable=False),
    sa.Column("job_id", sa.ForeignKey("jobs.id"), nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    # Of the job, which ends once in each.
    sa.Column("round", sa.Integer, nullable=False, server_default="1"),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
    # NULL once it is delivered or given up, or while its endpoint is disabled.
    sa.Column("next_at", sa.Double),
    # Who sends it.
    sa.Column("claim", sa.Text),
    sa.Column("delivered_at", sa.Double),
    sa.Column("given_up_at", sa.Double),
    sa.Column("last_status", sa.Integer),
    sa.Column("last_error", sa.Text),
    # An end of a job is told once to each.
    sa.UniqueConstraint("webhook_id", "job_id", "round", "kind", name="uq_deliveries_event"),
    sa.Index("ix_deliveries_next_at", "next_at"),
    sa.Index("ix_deliveries_webhook_created", "webhook_id", "created_at", "id"),
)

for _table, _dialect, _statement in (
    (
        ledger,
        "sqlite",
        """CREATE TRIGGER ledger_keeps_entries BEFORE UPDATE ON ledger
        BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END""",
    ),
    (
        ledger,
        "sqlite",
        """CREATE TRIGGER ledger_drops_nothing BEFORE DELETE ON ledger
        BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END""",
    ),
    (
        ledger,
        "postgresql",
        """CREATE FUNCTION refuse_ledger_change() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'the ledger is append-only'; END $$""",
    ),
    (
        ledger,
        "postgresql",
        """CREATE TRIGGER ledger_keeps_entries BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_ledger_change()""",
    ),
    (
        audit,
        "sqlite",
        """CREATE TRIGGER audit_keeps_rows BEFORE UPDATE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END""",
    ),
    (
        audit,
        "sqlite",
        """CREATE TRIGGER audit_drops_nothing BEFORE DELETE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END""",
    ),
    (
        audit,
        "postgresql",
        """CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$""",
    ),
    (
        audit,
        "postgresql",
        """CREATE TRIGGER audit_keeps_rows BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change()""",
    ),
):
    # The migrations say the same in the same words; a test compares.
    _made = sa.DDL(_statement)  # type: ignore[no-untyped-call]  # SQLAlchemy has no types there
    sa.event.listen(_table, "after_create", _made.execute_if(dialect=_dialect))

for _dialect, _statements in (("sqlite", tallies.SQLITE), ("postgresql", tallies.POSTGRESQL)):
    for _statement in _statements:
        _made = sa.DDL(_statement)  # type: ignore[no-untyped-call]  # SQLAlchemy has no types there
        # They are about two tables and write into a third.
        sa.event.listen(metadata, "after_create", _made.execute_if(dialect=_dialect))

workers = sa.Table(
    "workers",
    metadata,
    sa.Column("executor_id", sa.Text, primary_key=True),
    sa.Column("started_at", sa.Double, nullable=False),
    sa.Column("heartbeat_at", sa.Double, nullable=False),
)
