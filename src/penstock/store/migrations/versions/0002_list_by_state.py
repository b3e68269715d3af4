"""list by state

Lists filtered by state read their order from an index of their own.

Revision ID: 0002
Revises: 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_jobs_org_state_created", "jobs", ["org_id", "state", "created_at", "id"], unique=False
    )
