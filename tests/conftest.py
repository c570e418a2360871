import os
from pathlib import Path

import pytest
from hypothesis import settings

# In continuous integration a property test tries the same examples every time: what is red there can be repeated.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

# Longest first: with two workers, a long test that starts last keeps one of them waiting.
_LONGEST_FIRST = ("test_kill.py", "test_rerun.py", "test_failures.py", "test_accept.py", "test_bad_input.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: rank for rank, name in enumerate(_LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(Path(item.path).name, len(order)))
