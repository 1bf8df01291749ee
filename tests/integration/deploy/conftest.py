"""The directory world of the unit tests, for tests with processes of their own."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "deploy"))
sys.path.insert(0, str(Path(__file__).parent))
