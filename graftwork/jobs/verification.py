"""Reading everything in the store back, and removing what is not what its name says."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from graftwork.core.atomic import remove_file
from graftwork.core.progress import Progress
from graftwork.store.captions import read_caption
from graftwork.store.images import DamagedImage, check_image, read_digests
from graftwork.store.layout import Store


@dataclass(frozen=True)
class Damage:
    """A file of the store that cannot be used.

    Attributes:
        path: where it is.
        why: what is wrong with it, and where it is.
    """

    path: Path
    why: str


def verify_store(store: Store) -> tuple[list[Damage], int]:
    """Reads every image, and every file of hidden states, statistics, maps, captions and conditioning.

    Args:
        store: what is read; nothing in it is changed.

    Returns:
        Damaged files, and the number of files that were read.
    """
    files = [(path, check) for pattern, check in _checks(store) for path in sorted(store.root.glob(pattern))]
    progress = Progress("files read", len(files))
    damaged = []
    for path, check in files:
        why = f"{path} is a folder" if path.is_dir() else check(path)
        if why is not None:
            damaged.append(Damage(path, why))
        progress.advance()
    return damaged, len(files)


def repair_store(store: Store) -> tuple[list[Damage], int]:
    """Removes what `verify_store` finds damaged, so that the next run makes it again; returns what it returns."""
    damaged, read = verify_store(store)
    for damage in damaged:
        remove_file(damage.path)
    return damaged, read


def _checks(store: Store) -> Iterator[tuple[str, Callable[[Path], str | None]]]:
    """Yields (pattern of files, what says why one is damaged)."""
    digests = read_digests(store)

    def image(path: Path) -> str | None:
        try:
            check_image(path, digests)
        except (OSError, DamagedImage) as error:
            return str(error).partition(";")[0]
        return None

    yield "images/*/*.png", image
    yield "hidden_states/*/*.h5", _hidden_states
    yield "statistics/*/*.npz", _statistics
    yield "maps/*/*.safetensors", _map
    yield "conditioning/*/*.safetensors", _conditioning
    yield (
        "captions/*.json",
        lambda path: None if read_caption(store, path.stem) else f"{path} is no caption of this name",
    )


def _hidden_states(path: Path) -> str | None:
    from graftwork.store.hidden_states import DamagedHiddenStates, intact_layers, read_layer, stored_layers

    layers = stored_layers(path)
    if layers and intact_layers(path) == layers:
        return None
    try:
        for layer in layers or [0]:
            read_layer(path, layer)
    except DamagedHiddenStates as error:
        return str(error)
    return f"{path} has no layers"


def _statistics(path: Path) -> str | None:
    from graftwork.store.statistics import is_intact

    return None if is_intact(path) else f"{path} cannot be read back, or holds the statistics of another name"


def _map(path: Path) -> str | None:
    from graftwork.store.maps import DamagedMap, read_map

    try:
        read_map(path)
    except DamagedMap as error:
        return str(error)
    return None


def _conditioning(path: Path) -> str | None:
    from safetensors.torch import load_file

    from graftwork.conditioning.build import conditioning_hash

    try:
        found = conditioning_hash(load_file(path))
    except Exception as error:  # safetensors has an error type of its own for each way of being damaged
        return f"{path} cannot be read: {error}"
    return None if found == path.stem else f"{path} holds other tensors than its name says"
