"""What jobs of conditioning ask a generator for, without a generator."""

from types import SimpleNamespace

import pytest

from graftwork.conditioning.visibility import CaptionNorm
from graftwork.jobs import extraction, planned
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


@pytest.fixture(autouse=True, scope="module")
def nothing_planned(request):
    """Shards made by hand name no code and no model; test_planned.py compares those that planning made."""
    with pytest.MonkeyPatch.context() as patch:
        if not request.module.__name__.endswith("test_planned"):
            patch.setattr(planned.Planned, "require", lambda *_: None)
            patch.setattr(planned, "_require_keys", lambda items: None)
            patch.setattr(extraction, "require_reference", lambda path, sha256: None)
        yield
