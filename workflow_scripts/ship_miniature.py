"""Copies a trained family to resources/miniature: python -m workflow_scripts.ship_miniature"""

import argparse
import json
import shutil
from pathlib import Path

from lab.miniature.measure import read_measures
from lab.miniature.recipes import STAGE_NEEDS


def main(arguments: list[str] | None = None) -> None:
    """Copies weights, curves, probes and the measured table of `snakemake train_miniature`."""
    parser = argparse.ArgumentParser(description="Ship the miniature family that was trained here.")
    parser.add_argument(
        "--trained", type=Path, default=Path("results/miniature"), help="where it was trained"
    )
    parser.add_argument("--target", type=Path, default=Path("resources/miniature"), help="where it ships")
    options = parser.parse_args(arguments)
    measured = options.trained / "measured"
    missed = [row for row in read_measures(measured / "trained.json") if not row.kept]
    if missed:
        parser.error(f"promises that are not kept: {', '.join(f'{r.model} {r.name}' for r in missed)}")
    shutil.rmtree(options.target / "family", ignore_errors=True)
    shutil.copytree(options.trained / "family", options.target / "family")
    (options.target / "curves").mkdir(parents=True, exist_ok=True)
    for stage in STAGE_NEEDS:
        shutil.copy2(options.trained / stage / "curve.csv", options.target / "curves" / f"{stage}.csv")
        probes = json.loads((options.trained / stage / "probes.json").read_text(encoding="utf-8"))
        (options.target / "curves" / f"{stage}.json").write_text(json.dumps(probes, indent=1) + "\n")
    for ending in ("json", "md"):
        shutil.copy2(measured / f"trained.{ending}", options.target / f"measured.{ending}")


if __name__ == "__main__":
    main()
