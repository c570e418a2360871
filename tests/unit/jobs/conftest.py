"""What jobs of conditioning ask a generator for, without a generator."""

from types import SimpleNamespace

import pytest

from graftwork.conditioning.visibility import CaptionNorm
from graftwork.models import loading


@pytest.fixture(autouse=True)
def no_caption_norm(monkeypatch):
    """No generator is read: nothing is said of what it sees."""
    monkeypatch.setattr(loading, "ensure_model", lambda name, entry, kind: (name, kind))
    monkeypatch.setattr(
        CaptionNorm,
        "read",
        lambda *_: SimpleNamespace(relative_change=lambda *_: None, sketch=lambda *_: None),
    )
