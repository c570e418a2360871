"""Writes the corpora that maps are fitted on and judged by: python -m workflow_scripts.write_corpora [--fix]"""

import argparse
import sys
from pathlib import Path

from graftwork.design.map_corpora import corpus_files


def main(arguments: list[str] | None = None) -> int:
    """Compares the corpora with what the grammars give, or writes them; returns the exit status."""
    parser = argparse.ArgumentParser(
        description="Compare the corpora of maps with the grammars that give them."
    )
    parser.add_argument("--fix", action="store_true", help="write the files where they differ")
    options = parser.parse_args(arguments)
    differing = {
        name: text
        for name, text in corpus_files(Path.cwd()).items()
        if not Path(name).is_file() or Path(name).read_text(encoding="utf-8") != text
    }
    for name, text in differing.items():
        print(f"{name} differs from its grammar")
        if options.fix:
            Path(name).write_text(text, encoding="utf-8")
    return 1 if differing and not options.fix else 0


if __name__ == "__main__":
    sys.exit(main())
