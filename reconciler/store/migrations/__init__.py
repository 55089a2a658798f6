"""Schema revisions, run by Alembic; see `reconciler.store.schema`."""
