"""The watch tests share the client tests' stub agent."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "client"))
