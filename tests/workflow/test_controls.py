"""Controls in a run: an answer that cannot be had fails its images alone, and one that is there costs no model."""

import csv
from pathlib import Path

import pytest

from graftwork.core.records import read_record
from graftwork.design.cells import Design
from graftwork.design.settings import Hardware
from graftwork.planning.captions import needed_captions
from graftwork.store.captions import write_caption_file
from graftwork.store.layout import Store
from tests.workflow.harness import Workspace

pytestmark = pytest.mark.slow


def by_control(workspace: Workspace) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    with open(workspace.folder / "results/small/cells_full.csv", newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["control"] or row["role"], []).append(row)
    return found


def test_controls_are_made_fail_and_are_mended(fresh: Workspace) -> None:
    fresh.experiment["axes"] = {"alpha": [0.5]}
    fresh.experiment["controls"] = ["noise", "words"]
    # Random weights do not end an answer within one token.
    fresh.experiment["words"] = {"questions": ["what?"], "join": "{prompt}, {1}", "max_new_tokens": 1}
    fresh.save()
    targets = ("results/small/cells.csv",)
    run = fresh.run(*targets)
    assert run.returncode == 1
    assert "its reference was not put into words" in run.output
    cells = by_control(fresh)
    assert {kind: [row["status"] for row in rows] for kind, rows in cells.items()} == {
        "baseline": ["done"] * 2,
        "cell": ["done"] * 2,
        "noise": ["done"] * 2,
        "words": ["failed"] * 2,
    }
    assert len({row["image"] for rows in cells.values() for row in rows if row["image"]}) == 6

    design = read_record(Design, fresh.folder / "results/small/design.json")
    hardware = Hardware.model_validate(fresh.config["hardware"])
    store = Store(fresh.folder / "results/store")
    for caption in needed_captions([design], hardware).values():
        write_caption_file(store, caption.parts, "a yellow house")
    run = fresh.run(*targets)
    assert run.returncode == 0, run.output
    assert "vision_language" not in run.made
    assert run.made["images"] == 2
    for row in by_control(fresh)["words"]:
        assert row["words"] == f"{row['prompt']}, a yellow house"
        assert Path(fresh.folder / row["image"]).is_file()
