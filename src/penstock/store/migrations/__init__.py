"""Alembic's folder: `env.py` runs `versions/` in order."""
