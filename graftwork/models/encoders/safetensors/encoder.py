"""Hidden states out of files, in the place of a model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open

from graftwork.models.encoder import EncodedSequence, Encoder
from graftwork.models.hardware import parse_dtype
from graftwork.models.prompts import NEUTRAL_OPTIONS, AskedInput, InputOptions
from graftwork.models.state_files import VISION_TOWER, StatesFile, read_index
from graftwork.models.tokens import ROLE_CODES

# Where a file does not say which tokens these are: no id of a vocabulary.
UNKNOWN_TOKEN = -1


class WrittenStates(Encoder):
    """Reads states in place of computing them, in the type of `hardware.extraction.dtype`."""

    def __init__(self, folder: Path, dtype: torch.dtype):
        self._index, self._dtype = read_index(folder), dtype

    @classmethod
    def load(
        cls, folder: Path, entry: Mapping[str, Any], layers: Sequence[int] | None, hardware: Mapping[str, Any]
    ) -> "WrittenStates":
        """Reads the headers of a folder; see `loading.load_encoder`."""
        return cls(folder / (entry.get("subfolder") or ""), parse_dtype(hardware["dtype"]))

    def encode(
        self,
        prompt: str,
        image: Image.Image | None,
        image_key: str | None,
        layers: Sequence[int],
        options: InputOptions = NEUTRAL_OPTIONS,
    ) -> EncodedSequence:
        """Returns what the file of an input has; see `Encoder`. The image itself takes no part, but its key."""
        return self._read(AskedInput(prompt, image_key, options=options), layers)

    def encode_image(self, image: Image.Image, image_key: str | None) -> EncodedSequence:
        """Returns what the file of an image's vision tower has; see `Encoder`."""
        return self._read(AskedInput(None, image_key, VISION_TOWER), [0])

    def files_of(self, asked: AskedInput) -> Sequence[Path]:
        """Returns the file of an input, or none; the headers of all are read when the folder is loaded."""
        file = self._index.find(asked)
        return () if file is None else (file.path,)

    def _read(self, asked: AskedInput, layers: Sequence[int]) -> EncodedSequence:
        wanted = sorted(set(layers))
        for layer in wanted:
            problem = self._index.lacks(asked, layer)
            if problem is not None:
                raise ValueError(problem)
        file = self._index.find(asked)
        with safe_open(file.path, "pt") as opened:
            states = {
                layer: as_finite(
                    opened.get_tensor(f"layer_{layer}"), self._dtype, f"{file.path}: layer_{layer}"
                )
                for layer in wanted
            }
            given = {name: opened.get_tensor(name).numpy() for name in file.tensors}
        roles = roles_of(file, given)
        return EncodedSequence(
            token_ids=given.get("token_ids", np.full(file.tokens, UNKNOWN_TOKEN)).astype(np.int64),
            roles=roles,
            positions=given.get("positions", np.arange(file.tokens)[None]).astype(np.int64),
            hidden_states=states,
            in_prompt=given["in_prompt"].astype(bool) if "in_prompt" in given else None,
        )


def as_finite(states: torch.Tensor, dtype: torch.dtype, where: str) -> torch.Tensor:
    """Returns states in a type.

    Raises:
        FloatingPointError: where a value is not finite, or not in that type.
    """
    cast = states.to(dtype)
    finite = torch.isfinite(cast)
    if not bool(finite.all()):
        raise FloatingPointError(
            f"{where} has {int((~finite).sum())} of {finite.numel()} values that are not finite as "
            f"{str(dtype).removeprefix('torch.')}; write finite states"
        )
    return cast


def roles_of(file: StatesFile, given: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the role of each token, uint8 (tokens,), codes of `tokens.ROLES`; `prompt` where the file says none.

    Raises:
        ValueError: where a code stands for no name.
    """
    if "roles" not in given:
        return np.full(file.tokens, ROLE_CODES["prompt"], dtype=np.uint8)
    codes = np.array([ROLE_CODES[name] for name in file.role_names], dtype=np.uint8)
    highest = int(given["roles"].max())
    if highest >= len(codes):
        raise ValueError(
            f"{file.path}: roles has the code {highest}, but metadata roles has {len(codes)} names; allowed: 0 to {len(codes) - 1}"
        )
    return codes[given["roles"]]
