"""Secrets at rest and in passing: the AES-256-GCM box, its keys, redaction and generated passwords."""

from __future__ import annotations

from reconciler.secrets.box import Box
from reconciler.secrets.keyring import Keyring
from reconciler.secrets.redact import Redactor

__all__ = ["Box", "Keyring", "Redactor"]
