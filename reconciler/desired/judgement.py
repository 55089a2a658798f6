"""How one signature stands, whatever made it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["good", "unsigned", "unknown", "expired", "revoked", "altered", "malformed"]
"""`unknown`: nobody who may sign has the key. `altered`: the signature does not fit. `malformed`: it cannot be judged."""


@dataclass(frozen=True)
class Judgement:
    """`signer` is the person whose key it is, "" when unknown; `key` its fingerprint; `detail` says more for people."""

    state: State
    signer: str = ""
    key: str = ""
    detail: str = ""
