"""The central of the catalogue's tests."""

from ..catalogue.conftest import central, database

__all__ = ["central", "database"]
