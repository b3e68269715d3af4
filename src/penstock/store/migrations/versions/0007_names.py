"""names

What owners call their jobs, and how they find them: names, labels, beginnings of ids.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_NAMED = sa.text("name IS NOT NULL")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("name", sa.Text()))
    op.add_column("jobs", sa.Column("labels", sa.Text(), nullable=False, server_default="{}"))
    op.create_index(
        "ix_jobs_org_name",
        "jobs",
        ["org_id", "name", "created_at", "id", "parent_id"],
        sqlite_where=_NAMED,
        postgresql_where=_NAMED,
        postgresql_ops={"name": "text_pattern_ops"},
    )
    op.create_index(
        "ix_jobs_org_id",
        "jobs",
        ["org_id", "id", "created_at", "parent_id"],
        postgresql_ops={"id": "text_pattern_ops"},
    )
    op.create_table(
        "job_labels",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_labels_job_id")),
        sa.ForeignKeyConstraint(["org_id"], ["orgs.id"], name=op.f("fk_job_labels_org_id")),
        sa.PrimaryKeyConstraint("job_id", "key", name=op.f("pk_job_labels")),
    )
    op.create_index(
        "ix_job_labels_org_key", "job_labels", ["org_id", "key", "value", "created_at", "job_id"]
    )
