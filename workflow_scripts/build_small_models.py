"""Builds the small random models that tests use: python -m workflow_scripts.build_small_models FOLDER"""

import argparse
from pathlib import Path

from workflow_scripts.lib.models.small_family import build_small_family


def main(arguments: list[str] | None = None) -> None:
    """Builds the family into the folder named on the command line."""
    parser = argparse.ArgumentParser(description="Build tiny random models of the published architectures.")
    parser.add_argument("folder", type=Path, help="where to build; a complete family there is left alone")
    parser.add_argument("--seed", type=int, default=0, help="decides all weights (default 0)")
    options = parser.parse_args(arguments)
    build_small_family(options.folder, seed=options.seed)


if __name__ == "__main__":
    main()
