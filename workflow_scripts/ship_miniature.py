"""Copies a trained family to resources/miniature: python -m workflow_scripts.ship_miniature"""

import argparse
from pathlib import Path

from lab.miniature.measure import read_measures
from lab.miniature.shipping import ship_calibration, ship_family, ship_scorers


def main(arguments: list[str] | None = None) -> None:
    """Copies weights, curves, probes and measured tables of `snakemake train_miniature` and `calibrate_miniature`."""
    parser = argparse.ArgumentParser(description="Ship the miniature family that was trained here.")
    parser.add_argument(
        "--trained", type=Path, default=Path("results/miniature"), help="where it was trained"
    )
    parser.add_argument("--target", type=Path, default=Path("resources/miniature"), help="where it ships")
    parser.add_argument(
        "--only", choices=("scorers", "calibration"), help="a part; by default the family and its scorers"
    )
    options = parser.parse_args(arguments)
    if options.only == "calibration":
        ship_calibration(options.trained, options.target)
        return
    if options.only is None:
        missed = [row for row in read_measures(options.trained / "measured/trained.json") if not row.kept]
        if missed:
            parser.error(f"promises that are not kept: {', '.join(f'{r.model} {r.name}' for r in missed)}")
        ship_family(options.trained, options.target)
    ship_scorers(options.trained, options.target)


if __name__ == "__main__":
    main()
