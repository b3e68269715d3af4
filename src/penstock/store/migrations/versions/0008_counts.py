"""counts of lists

How many jobs there are, by state and by label, is kept with each change. Lists read what they filter
by from one index.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_SQLITE = (
    """CREATE TRIGGER job_counts_new_job AFTER INSERT ON jobs WHEN NEW.parent_id IS NULL
        BEGIN INSERT INTO job_counts (org_id, key, value, state, slot, jobs)
        VALUES (NEW.org_id, '', '', NEW.state, 0, 1)
        ON CONFLICT (org_id, key, value, state, slot) DO UPDATE SET jobs = jobs + 1; END""",
    """CREATE TRIGGER job_counts_no_job AFTER DELETE ON jobs WHEN OLD.parent_id IS NULL
        BEGIN UPDATE job_counts SET jobs = jobs - 1
        WHERE org_id = OLD.org_id AND key = '' AND value = ''
        AND state = OLD.state;
        DELETE FROM job_counts
        WHERE org_id = OLD.org_id AND key = '' AND value = ''
        AND state = OLD.state AND jobs = 0; END""",
    """CREATE TRIGGER job_counts_moved_job AFTER UPDATE OF state ON jobs
        WHEN NEW.parent_id IS NULL AND OLD.state <> NEW.state
        BEGIN UPDATE job_counts SET jobs = jobs - 1
        WHERE org_id = OLD.org_id AND key = '' AND value = ''
        AND state = OLD.state;
        DELETE FROM job_counts
        WHERE org_id = OLD.org_id AND key = '' AND value = ''
        AND state = OLD.state AND jobs = 0;
        INSERT INTO job_counts (org_id, key, value, state, slot, jobs)
        VALUES (NEW.org_id, '', '', NEW.state, 0, 1)
        ON CONFLICT (org_id, key, value, state, slot) DO UPDATE SET jobs = jobs + 1;
        UPDATE job_labels SET state = NEW.state WHERE job_id = NEW.id; END""",
    """CREATE TRIGGER job_counts_new_label AFTER INSERT ON job_labels
        BEGIN INSERT INTO job_counts (org_id, key, value, state, slot, jobs)
        VALUES (NEW.org_id, NEW.key, NEW.value, NEW.state, 0, 1)
        ON CONFLICT (org_id, key, value, state, slot) DO UPDATE SET jobs = jobs + 1; END""",
    """CREATE TRIGGER job_counts_no_label AFTER DELETE ON job_labels
        BEGIN UPDATE job_counts SET jobs = jobs - 1
        WHERE org_id = OLD.org_id AND key = OLD.key AND value = OLD.value
        AND state = OLD.state;
        DELETE FROM job_counts
        WHERE org_id = OLD.org_id AND key = OLD.key AND value = OLD.value
        AND state = OLD.state AND jobs = 0; END""",
    """CREATE TRIGGER job_counts_moved_label AFTER UPDATE OF state ON job_labels
        BEGIN UPDATE job_counts SET jobs = jobs - 1
        WHERE org_id = OLD.org_id AND key = OLD.key AND value = OLD.value
        AND state = OLD.state;
        DELETE FROM job_counts
        WHERE org_id = OLD.org_id AND key = OLD.key AND value = OLD.value
        AND state = OLD.state AND jobs = 0;
        INSERT INTO job_counts (org_id, key, value, state, slot, jobs)
        VALUES (NEW.org_id, NEW.key, NEW.value, NEW.state, 0, 1)
        ON CONFLICT (org_id, key, value, state, slot) DO UPDATE SET jobs = jobs + 1; END""",
)

_POSTGRESQL = (
    """CREATE FUNCTION count_jobs(org text, k text, v text, s text, change bigint)
        RETURNS void LANGUAGE plpgsql AS $$
        DECLARE mine bigint; total bigint;
        BEGIN
            SELECT slot INTO mine FROM job_counts
            WHERE org_id = org AND key = k AND value = v AND state = s
            LIMIT 1 FOR UPDATE SKIP LOCKED;
            IF NOT FOUND THEN
                INSERT INTO job_counts AS known (org_id, key, value, state, slot, jobs)
                VALUES (org, k, v, s, txid_current(), change)
                ON CONFLICT (org_id, key, value, state, slot)
                DO UPDATE SET jobs = known.jobs + excluded.jobs;
                RETURN;
            END IF;
            UPDATE job_counts SET jobs = jobs + change
            WHERE org_id = org AND key = k AND value = v AND state = s AND slot = mine
            RETURNING jobs INTO total;
            IF total = 0 AND k <> '' THEN
                DELETE FROM job_counts
                WHERE org_id = org AND key = k AND value = v AND state = s AND slot = mine;
            END IF;
        END $$""",
    """CREATE FUNCTION count_changed_job() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'UPDATE' AND OLD.state = NEW.state THEN RETURN NULL; END IF;
            IF TG_OP <> 'INSERT' AND OLD.parent_id IS NULL THEN
                PERFORM count_jobs(OLD.org_id, '', '', OLD.state, -1);
            END IF;
            IF TG_OP <> 'DELETE' AND NEW.parent_id IS NULL THEN
                PERFORM count_jobs(NEW.org_id, '', '', NEW.state, 1);
            END IF;
            IF TG_OP = 'UPDATE' THEN
                UPDATE job_labels SET state = NEW.state WHERE job_id = NEW.id;
            END IF;
            RETURN NULL;
        END $$""",
    """CREATE FUNCTION count_changed_label() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP <> 'INSERT' THEN
                PERFORM count_jobs(OLD.org_id, OLD.key, OLD.value, OLD.state, -1);
            END IF;
            IF TG_OP <> 'DELETE' THEN
                PERFORM count_jobs(NEW.org_id, NEW.key, NEW.value, NEW.state, 1);
            END IF;
            RETURN NULL;
        END $$""",
    """CREATE TRIGGER job_counts_job AFTER INSERT OR DELETE OR UPDATE OF state ON jobs
        FOR EACH ROW EXECUTE FUNCTION count_changed_job()""",
    """CREATE TRIGGER job_counts_label AFTER INSERT OR DELETE OR UPDATE OF state ON job_labels
        FOR EACH ROW EXECUTE FUNCTION count_changed_label()""",
)

_NAMED = sa.text("name IS NOT NULL")

# Not both where they are longer than 1,500 bytes.
_FOUND_BY = {
    "sqlite": """UPDATE job_labels SET (state, name, labels) = (
        SELECT state, CASE WHEN size <= 1500 THEN name END, CASE WHEN size <= 1500 THEN labels END
        FROM (SELECT id, state, name, labels,
                     coalesce(length(CAST(name AS BLOB)), 0) + length(CAST(labels AS BLOB)) AS size
              FROM jobs WHERE jobs.id = job_labels.job_id))""",
    "postgresql": """UPDATE job_labels SET (state, name, labels) = (
        SELECT state, CASE WHEN size <= 1500 THEN name END, CASE WHEN size <= 1500 THEN labels END
        FROM (SELECT id, state, name, labels,
                     coalesce(octet_length(name), 0) + octet_length(labels) AS size
              FROM jobs WHERE jobs.id = job_labels.job_id) AS found)""",
}

_COUNTS = (
    """INSERT INTO job_counts (org_id, key, value, state, slot, jobs)
    SELECT org_id, '', '', state, 0, count(*) FROM jobs WHERE parent_id IS NULL
    GROUP BY org_id, state""",
    """INSERT INTO job_counts (org_id, key, value, state, slot, jobs)
    SELECT org_id, key, value, state, 0, count(*) FROM job_labels
    GROUP BY org_id, key, value, state""",
)


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    op.drop_index("ix_jobs_org_created", "jobs")
    op.create_index(
        "ix_jobs_org_created", "jobs", ["org_id", "created_at", "id", "parent_id", "state", "name"]
    )
    op.drop_index("ix_jobs_org_name", "jobs")
    op.create_index(
        "ix_jobs_org_name",
        "jobs",
        ["org_id", "name", "created_at", "id", "parent_id", "state"],
        sqlite_where=_NAMED,
        postgresql_where=_NAMED,
        postgresql_ops={"name": "text_pattern_ops"},
    )
    op.drop_index("ix_job_labels_org_key", "job_labels")
    op.add_column("job_labels", sa.Column("state", sa.Text(), nullable=False, server_default=""))
    op.add_column("job_labels", sa.Column("name", sa.Text()))
    op.add_column("job_labels", sa.Column("labels", sa.Text()))
    op.execute(_FOUND_BY[dialect])
    op.create_index(
        "ix_job_labels_org_key",
        "job_labels",
        ["org_id", "key", "value", "created_at", "job_id", "state", "name", "labels"],
    )
    op.create_table(
        "job_counts",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("slot", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("jobs", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "org_id", "key", "value", "state", "slot", name=op.f("pk_job_counts")
        ),
        sqlite_with_rowid=False,
    )
    for statement in _COUNTS:
        op.execute(statement)
    for statement in {"sqlite": _SQLITE, "postgresql": _POSTGRESQL}[dialect]:
        op.execute(statement)
