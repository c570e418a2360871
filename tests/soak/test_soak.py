"""A handful of random kills; `python -m tests.soak.soak --kills 200` has more."""

from pathlib import Path

import pytest

from tests.soak.soak import soak

pytestmark = pytest.mark.slow


def test_a_handful_of_random_kills_loses_nothing(tmp_path: Path) -> None:
    tally = soak(tmp_path, kills=4, seed=3)
    assert tally.problems == []
    assert tally.kills == 4
    assert tally.rounds >= 1
