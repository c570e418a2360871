import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# Test processes side by side: threads of one that wait for work must not take the cores of another. Read when torch is
# imported, here and in the processes that tests start.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Tests start hundreds of processes: where bytecode is not kept, as in many containers, each would compile all code again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A property test tries the same examples every time: what is red can be repeated. `EXAMPLES=2000` looks for others, and so many.
settings.register_profile("repeated", derandomize=True)
settings.register_profile("searching", max_examples=int(os.environ.get("EXAMPLES", "100")))
settings.load_profile("searching" if "EXAMPLES" in os.environ else "repeated")

# Longest first: with two workers, a long test that starts last keeps one of them waiting.
_LONGEST_FIRST = ("test_kill.py", "test_rerun.py", "test_failures.py", "test_accept.py", "test_bad_input.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: rank for rank, name in enumerate(_LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(Path(item.path).name, len(order)))
