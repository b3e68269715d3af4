"""output name

Each run that collects writes an output of its own name, and the end of the job names the one that
counts. NULL is an output from before: `output.jsonl`.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("output_name", sa.Text(), nullable=True))
