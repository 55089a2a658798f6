"""What a unit of work gets: the connection inside its transaction, the box and the time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from reconciler.secrets.box import Box


@dataclass(frozen=True)
class Tx:
    """One transaction. `now` is the same for all that it writes; it must not be used after the unit has returned."""

    connection: sa.Connection
    box: Box
    now: datetime
