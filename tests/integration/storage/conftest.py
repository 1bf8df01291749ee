"""The central of the catalogue's tests."""

from ..catalogue.conftest import central, database, server

__all__ = ["central", "database", "server"]
