"""Where things are in the store."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Store:
    """Paths under results/store. Names are keys: what has the same name is the same.

    Attributes:
        root: results/store.
    """

    root: Path

    def hidden_states(self, key: str) -> Path:
        """One encoder input: HDF5 with a dataset per layer."""
        return self.root / "hidden_states" / key[:2] / f"{key}.h5"

    def caption(self, key: str) -> Path:
        """What an encoder answered about an image: JSON."""
        return self.root / "captions" / f"{key}.json"

    def conditioning(self, hash_: str) -> Path:
        """Conditioning tensors, by the hash of their bytes."""
        return self.root / "conditioning" / hash_[:2] / f"{hash_}.safetensors"

    def statistics(self, key: str) -> Path:
        """Statistics of one layer of an encoder over a corpus; beside it, as `.json`, what they are of."""
        return self.root / "statistics" / key[:2] / f"{key}.npz"

    def map(self, key: str) -> Path:
        """A fitted map; beside it, as `.json`, what it is of."""
        return self.root / "maps" / key[:2] / f"{key}.safetensors"

    def image(self, key: str) -> Path:
        """One image."""
        return self.root / "images" / key[:2] / f"{key}.png"

    @property
    def shards(self) -> Path:
        """Folder of what jobs have to do, frozen."""
        return self.root / "shards"

    @property
    def recipes_of_shards(self) -> Path:
        """Folder of how the conditioning of shards of images is built, under the names of the shards."""
        return self.shards / "recipes"

    @property
    def recipes(self) -> Path:
        """Folder of the table from recipe to conditioning hash."""
        return self.root / "recipes"

    @property
    def verified(self) -> Path:
        """Which hidden-state files were read back in full, at which size and time."""
        return self.root / "facts" / "hidden_states.json"

    @property
    def verified_statistics(self) -> Path:
        """Which files of statistics were read back in full, at which size and time."""
        return self.root / "facts" / "statistics.json"

    @property
    def verified_maps(self) -> Path:
        """Which files of maps were read back in full, at which size and time."""
        return self.root / "facts" / "maps.json"

    @property
    def image_digests(self) -> Path:
        """Folder of the digests of images, a file per job that made some."""
        return self.root / "facts" / "images"

    @property
    def values(self) -> Path:
        """Folder of what was measured of images, a file per job that measured some."""
        return self.root / "values"

    @property
    def rates(self) -> Path:
        """Folder of how much work (pixels x steps) finished jobs of generation did in how many seconds."""
        return self.root / "facts" / "rates"
