"""Pure: what was found on a node becomes manifests, and a report of what could not be taken over.

Everything found is somebody else's text. It reaches a manifest only through the types of the kinds, and a report only in
printable form; values are written as YAML by a library that quotes.
"""

from __future__ import annotations

from reconciler.importing.draft import Draft, Import, Note
from reconciler.importing.take import Wish, take

__all__ = ["Draft", "Import", "Note", "Wish", "take"]
