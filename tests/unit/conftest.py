"""What the tests of the miniature world share."""

import numpy as np
import pytest

from graftwork.scenes.reader import SceneReader
from graftwork.scenes.world import all_scenes, render_scenes


@pytest.fixture(scope="session")
def reader() -> SceneReader:
    return SceneReader()


@pytest.fixture(scope="session")
def renders() -> np.ndarray:
    """Every scene at 64 px, uint8 (8960, 64, 64, 3); not to be changed."""
    pictures = render_scenes(all_scenes())
    pictures.setflags(write=False)
    return pictures
