"""Hidden states in HDF5: one file per encoder input, one dataset per layer.

    token_ids                int64   (tokens,)
    roles                    uint8   (tokens,)         codes of models/tokens.py
    positions                int64   (axes, tokens)    rotary positions, 1 axis or 3 (M-RoPE)
    in_prompt                uint8   (tokens,)         tokens of the prompt, whatever their role
    hidden_states/{index}    float32 or uint16 (tokens, hidden_size)

`index` counts `hidden_states` of the library: 0 is the embedding, k the output of block k. The output of a vision tower
is a file of its own with the one entry 0, its positions those on the image's grid. bfloat16 is stored as the
uint16 with the same bits (attribute `dtype`), for HDF5 has no such type and compression would need a plug-in that
readers lack. The attribute `key` is the name of the file: one that was exchanged for another is damaged. Every dataset carries Fletcher-32 checksums, and the format of HDF5 1.10 has checksums for everything
else: in older ones a flipped bit can change shapes, types and names unnoticed. A file is never changed in place: adding
a layer copies what is intact into a new file, under a lock, and moves that over the old one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from graftwork.core.atomic import atomic_path
from graftwork.core.locks import exclusive_lock
from graftwork.core.records import to_json
from graftwork.models.tokens import ROLE_CODES
from graftwork.store.records import EncoderInput

_SEQUENCE = ("token_ids", "roles", "positions", "in_prompt")


class DamagedHiddenStates(Exception):
    """A file or dataset that cannot be read back as it was written."""


@dataclass(frozen=True)
class HiddenStates:
    """One layer of one encoder input.

    Attributes:
        values: (tokens, hidden_size), float32, or uint16 that holds bfloat16 bits.
        dtype: "float32" or "bfloat16": what `values` means.
        token_ids: (tokens,) int64.
        roles: (tokens,) uint8.
        positions: (axes, tokens) int64.
        in_prompt: (tokens,) bool; None for the tokens in role `prompt`.
    """

    values: np.ndarray
    dtype: str
    token_ids: np.ndarray
    roles: np.ndarray
    positions: np.ndarray
    in_prompt: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Takes what is not given from the roles."""
        if self.in_prompt is None:
            object.__setattr__(self, "in_prompt", _prompt_by_role(self.roles))


def add_layers(
    path: Path,
    layers: Mapping[int, np.ndarray],
    dtype: str,
    sequence: Mapping[str, np.ndarray],
    origin: EncoderInput,
) -> list[int]:
    """Adds layers to the file of one encoder input, keeping every intact layer that it has.

    Args:
        layers: index -> (tokens, hidden_size), float32 or uint16 (bfloat16 bits).
        dtype: "float32" or "bfloat16".
        sequence: token_ids, roles and positions of the input, and in_prompt, which without an entry are the tokens in role
            `prompt`.
        origin: record whose digest names the file, kept as JSON for people who open the file.

    Returns:
        The layers that the file has now: those that were read back from it, and those that were given.

    Raises:
        ValueError: if an existing file holds another token sequence under the same name.
    """
    in_prompt = sequence.get("in_prompt", _prompt_by_role(sequence["roles"]))
    sequence = {**sequence, "in_prompt": np.asarray(in_prompt, dtype=np.uint8)}
    with exclusive_lock(path.with_suffix(".lock")):
        kept = _intact_layers(path, sequence)
        with atomic_path(path) as temporary, h5py.File(temporary, "w", libver=("v110", "v112")) as file:
            _write_text(file, "origin", json.dumps(to_json(origin), sort_keys=True, ensure_ascii=False))
            _write_text(file, "key", path.stem)
            for name in _SEQUENCE:
                _write(file, name, np.asarray(sequence[name]))
            all_layers = {**kept, **{i: (v, dtype) for i, v in layers.items()}}
            for index, (values, kept_dtype) in sorted(all_layers.items()):
                dataset = _write(file, f"hidden_states/{index}", values)
                _write_text(dataset, "dtype", kept_dtype)
    return sorted(all_layers)


def read_layer(path: Path, index: int) -> HiddenStates:
    """Reads one layer, checksums verified.

    Raises:
        DamagedHiddenStates: where the file or the dataset is missing, truncated or does not match its checksum.
    """
    try:
        with h5py.File(path, "r") as file:
            _require_key(file, path)
            dataset = file[f"hidden_states/{index}"]
            sequence = _read_sequence(file)
            sequence["in_prompt"] = sequence["in_prompt"].astype(bool)
            return HiddenStates(dataset[()], _read_text(dataset, "dtype"), **sequence)
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise DamagedHiddenStates(f"{path}, layer {index}: {error}") from error


def stored_layers(path: Path) -> list[int]:
    """Returns the layers that a file says it has, whether or not they can be read; none where it cannot be opened."""
    try:
        with h5py.File(path, "r") as file:
            return sorted(int(name) for name in file["hidden_states"])
    except (OSError, KeyError, RuntimeError, ValueError):
        return []


def intact_layers(path: Path) -> list[int]:
    """Returns the layers that can be read back in full; none for a file that is missing or unreadable."""
    return sorted(_intact_layers(path, None))


def _intact_layers(
    path: Path, expected: Mapping[str, np.ndarray] | None
) -> dict[int, tuple[np.ndarray, str]]:
    if not path.exists():
        return {}
    layers = {}
    try:
        with h5py.File(path, "r") as file:
            _require_key(file, path)
            sequence = _read_sequence(file)
            for name in file["hidden_states"]:
                try:
                    dataset = file[f"hidden_states/{name}"]
                    layers[int(name)] = (dataset[()], _read_text(dataset, "dtype"))
                except (OSError, KeyError, RuntimeError, ValueError):
                    continue  # a damaged layer is simply not among the intact ones
    except (OSError, KeyError, RuntimeError, ValueError):
        return {}
    for name, values in sequence.items():
        if expected is not None and not np.array_equal(values, np.asarray(expected[name])):
            raise ValueError(
                f"{path} holds other {name} than the encoder gives now under the same identity. The tokenizer or "
                "the position code changed without a change of its digest; delete the file to extract it again."
            )
    return layers


def _read_sequence(file: h5py.File) -> dict[str, np.ndarray]:
    # The first files had no in_prompt.
    sequence = {name: file[name][()] for name in _SEQUENCE if name in file or name != "in_prompt"}
    sequence.setdefault("in_prompt", _prompt_by_role(sequence["roles"]))
    return sequence


def _prompt_by_role(roles: np.ndarray) -> np.ndarray:
    return np.asarray(roles) == ROLE_CODES["prompt"]


def _require_key(file: h5py.File, path: Path) -> None:
    key = _read_text(file, "key")
    if key != path.stem:
        raise ValueError(f"it holds the hidden states of {key}")


def _write(file: h5py.File, name: str, values: np.ndarray) -> h5py.Dataset:
    return file.create_dataset(name, data=values, chunks=values.shape, fletcher32=True)


def _write_text(owner: h5py.Group | h5py.Dataset, name: str, text: str) -> None:
    # Of fixed length: other strings lie in a heap that has no checksum, and HDF5 never returns from some damage to it.
    data = text.encode()
    owner.attrs.create(name, data, dtype=h5py.string_dtype("utf-8", len(data)))


def _read_text(owner: h5py.Group | h5py.Dataset, name: str) -> str:
    text = owner.attrs[name]
    return text.decode() if isinstance(text, bytes) else str(text)
