"""Vectors that cells add to hidden states: names become content, and what is no vector is refused."""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from graftwork.core.errors import DesignError, shorten
from graftwork.design.corpora import CorpusInputs
from graftwork.design.fit import CellModels
from graftwork.design.inputs import read_prompts
from graftwork.models.weights import Header, read_header
from graftwork.transforms.context import VECTOR
from graftwork.transforms.registry import transform

_TYPES = ("F32", "F16", "BF16")


class VectorsOfCells:
    """Resolves what cells say of vectors, against the files of a working directory."""

    def __init__(self, root: Path):
        self._root = root
        self._file = cache(self._read_file)
        self._prompts: dict[str, CorpusInputs] = {}

    def resolve(
        self, values: Mapping[str, Any], models: CellModels, design: Any, file: str
    ) -> dict[str, Any]:
        """Returns `vector` of a cell with content in place of names; files and prompts become parts of the design.

        Args:
            values: Parameters of a cell; a baseline has no vector.
            models: Models of the cell.
            design: Design of the experiment.
            file: Path of the experiment, for messages.

        Raises:
            DesignError: naming the value, what is allowed, and the key.
        """
        chosen = values.get("vector")
        if chosen is None:
            return {}
        is_added = VECTOR in transform("blend", values["blend"]).needs and values["alpha"] != 0.0
        if "file" in chosen:
            width = models.generator.facts.caption_channels if is_added else None
            return {"vector": self._from_file(chosen, width, design, f"{file}: vector")}
        resolved = {"tokens": chosen["tokens"]}
        for side in ("towards", "away_from"):
            where = f"{file}: vector.{side}"
            corpus = self._corpus(chosen[side], where)
            if is_added:
                _check_control_tokens(corpus, models, where)
            design.corpora.setdefault(corpus.digest, corpus.record)
            resolved[side] = corpus.digest
        if resolved["towards"] == resolved["away_from"]:
            raise DesignError(
                f"{file}: vector: towards and away_from are the same prompts, and their difference is 0; give two sets that "
                "differ in what the vector is to change"
            )
        return {"vector": resolved}

    def _corpus(self, prompts: str | list[str], where: str) -> CorpusInputs:
        known = repr(prompts)
        if known not in self._prompts:
            name = prompts if isinstance(prompts, str) else f"{len(prompts)} prompts of a vector"
            self._prompts[known] = CorpusInputs(name, read_prompts(prompts, self._root, where), [])
        return self._prompts[known]

    def _from_file(
        self, chosen: Mapping[str, Any], width: int | None, design: Any, where: str
    ) -> dict[str, Any]:
        path = chosen["file"]
        found = self._file(path)
        if isinstance(found, str):
            raise DesignError(f"{where}.file: {found}")
        sha256, header = found
        names = ", ".join(sorted(header.shapes)) or "none"
        tensor = chosen["tensor"]
        if tensor is None and len(header.shapes) == 1:
            (tensor,) = header.shapes
        if tensor not in header.shapes:
            asked = "vector.tensor is not given" if tensor is None else f"there is no tensor {tensor!r}"
            raise DesignError(
                f"{where}: {asked}, and {path} has the tensors {names}; set vector.tensor to one of them"
            )
        shape, dtype = header.shapes[tensor], header.dtypes[tensor]
        if dtype not in _TYPES or len(shape) != 1 or width not in (None, *shape):
            needed = f"[{width}], the width that the generator takes" if width else "one dimension"
            raise DesignError(
                f"{where}: {tensor} of {path} is {dtype} {list(shape)}; allowed: {', '.join(_TYPES)} of the shape {needed}"
            )
        design.statistics_files.setdefault(sha256, path)
        return {"file": sha256, "tensor": tensor}

    def _read_file(self, path: str) -> tuple[str, Header] | str:
        """Returns SHA-256 and header of a file, or what is wrong with it."""
        own = self._root / path
        try:
            return hashlib.sha256(own.read_bytes()).hexdigest(), read_header(own)
        except OSError:
            return f"{path!r} does not exist or cannot be read; allowed: the path of a safetensors file, from the repository's root"
        except ValueError as error:
            return str(error).replace(str(own), path)


def _check_control_tokens(corpus: CorpusInputs, models: CellModels, where: str) -> None:
    """Refuses texts with tokens that the encoder reads as structure."""
    encoder = models.encoder or models.text
    for prompt in corpus.prompts:
        found = [token for token in encoder.facts.special_tokens if token in prompt.text]
        if found:
            raise DesignError(
                f"{where}: prompt {shorten(prompt.name)} contains the control token {found[0]!r}, which encoder "
                f"{encoder.name!r} reads as structure; remove it"
            )
