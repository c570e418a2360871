"""Files that come with this library, for a working directory that does not have them itself.

A workflow that uses this one as a module has its own `config/`. The models file, presets of hardware, the miniature and the references
in `resources/` that it does not have are those of the repository that the library is in.
"""

from pathlib import Path

OUTSIDE_DIGESTS = "finds files, whose content counts by itself"

HOME = Path(__file__).resolve().parents[2]


def own_or_shipped(root: Path, path: str | Path) -> Path:
    """Returns where a path is: below the working directory, or, if there is nothing, in the repository of this library.

    Args:
        root: Working directory.
        path: Path, relative to either.

    Returns:
        The path below `root` where neither exists, for messages.
    """
    own, shipped = root / path, HOME / path
    return shipped if shipped.exists() and not own.exists() else own
