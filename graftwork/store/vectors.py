"""Vectors that are added to hidden states, in the form of hidden states of one or two tokens."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from graftwork.models.tokens import ROLE_CODES
from graftwork.statistics.reference import ReferenceStatistics
from graftwork.store.hidden_states import HiddenStates
from graftwork.store.records import CorpusStatistics, VectorName


def read_vector(
    name: VectorName,
    read_statistics: Callable[[CorpusStatistics], ReferenceStatistics],
    files: Mapping[str, str],
) -> HiddenStates:
    """Returns a vector as hidden states of one token, or both means of a difference as those of two.

    Args:
        name: The vector.
        read_statistics: Gives statistics of a corpus.
        files: SHA-256 -> path of files of the user.

    Raises:
        ValueError: where a file is another one than its SHA-256 says, or has values that are not finite.
    """
    if name.file is not None:
        rows = _read_file(Path(files[name.file]), name.file, name.tensor)[None]
    else:
        rows = np.stack([read_statistics(part).mean for part in (name.towards, name.away_from)])
    return HiddenStates(
        values=rows,
        dtype="float32",
        token_ids=np.full(len(rows), -1, dtype=np.int64),
        roles=np.full(len(rows), ROLE_CODES["prompt"], dtype=np.uint8),
        positions=np.arange(len(rows), dtype=np.int64)[None],
    )


def _read_file(path: Path, sha256: str, tensor: str) -> np.ndarray:
    from safetensors.torch import load

    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"{path} is another file now than when the run started; start it again")
    values = load(data)[tensor].float().numpy()
    if not np.isfinite(values).all():
        raise ValueError(
            f"{path}: {tensor} has {int((~np.isfinite(values)).sum())} of {values.size} values that are not finite"
        )
    return values
