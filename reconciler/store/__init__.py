"""The database: tables, units of work, queries, migrations, backups. The only place that speaks SQL."""

from __future__ import annotations

from reconciler.store.engine import Store
from reconciler.store.state import CreatedState, create_state, open_state
from reconciler.store.transaction import Tx

__all__ = ["CreatedState", "Store", "Tx", "create_state", "open_state"]
