"""The small models, built once per session, and designs that are made of plain values."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def family(tmp_path_factory) -> Path:
    from tests.small_family import build_small_family

    folder = tmp_path_factory.mktemp("models") / "small"
    build_small_family(folder)
    return folder
