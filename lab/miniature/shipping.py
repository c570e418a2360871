"""Copies of what was trained, in the form in which it ships."""

import json
import shutil
from pathlib import Path

from lab.miniature.recipes import SCORERS, STAGE_NEEDS


def ship_family(trained: Path, target: Path) -> None:
    """Copies the family, curves and probes of its stages, and the measured table.

    Args:
        trained: Folder of the training.
        target: Folder that ships.
    """
    _replace(trained / "family", target / "family")
    for stage in STAGE_NEEDS:
        if stage not in SCORERS:
            _ship_curve(stage, trained, target)
    for ending in ("json", "md"):
        shutil.copy2(trained / "measured" / f"trained.{ending}", target / f"measured.{ending}")


def ship_scorers(trained: Path, target: Path) -> None:
    """Copies the scorers that were assembled, with their curves and probes; see `ship_family`."""
    for name in SCORERS:
        if (trained / "scorers" / name).is_dir():
            _replace(trained / "scorers" / name, target / "scorers" / name)
            _ship_curve(name, trained, target)


def ship_calibration(trained: Path, target: Path) -> None:
    """Copies how scorers agree with the scene reader; see `ship_family`."""
    for ending in ("json", "md"):
        shutil.copy2(trained / f"calibration.{ending}", target)


def _replace(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


def _ship_curve(stage: str, trained: Path, target: Path) -> None:
    (target / "curves").mkdir(parents=True, exist_ok=True)
    shutil.copy2(trained / stage / "curve.csv", target / "curves" / f"{stage}.csv")
    probes = json.loads((trained / stage / "probes.json").read_text(encoding="utf-8"))
    (target / "curves" / f"{stage}.json").write_text(json.dumps(probes, indent=1) + "\n")
