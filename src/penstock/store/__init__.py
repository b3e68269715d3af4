"""The database: one schema for SQLite and Postgres, short methods, one query each."""
