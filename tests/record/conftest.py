"""The same fleet as in the tests of converging."""

from tests.converge.conftest import migrated, world

__all__ = ["migrated", "world"]
