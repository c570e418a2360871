"""Generates docs/reference.md and config/schema/: python -m workflow_scripts.describe_config [--fix]"""

import argparse
import sys
from pathlib import Path

from graftwork.design.describe import find_drift, generated_files


def main(arguments: list[str] | None = None) -> int:
    """Compares the generated files with the definitions, or writes them; returns the exit status."""
    parser = argparse.ArgumentParser(
        description="Compare the reference and the JSON schemas with the definition of the configuration."
    )
    parser.add_argument("--fix", action="store_true", help="write the files where they differ")
    options = parser.parse_args(arguments)
    root = Path.cwd()
    drift = find_drift(root)
    for line in drift:
        print(line)
    if drift and options.fix:
        for name, text in generated_files(root).items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")
        print("written")
    elif drift:
        print("to write them: python -m workflow_scripts.describe_config --fix")
    return 1 if drift and not options.fix else 0


if __name__ == "__main__":
    sys.exit(main())
