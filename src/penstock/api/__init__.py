"""HTTP: one file per dialect. Never imports `penstock.lifecycle`: they meet in the database."""
