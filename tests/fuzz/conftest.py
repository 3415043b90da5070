"""Lets the tests here import the fuzzer's own modules, which the runner finds beside itself."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
