"""Hidden states and tables for notebooks: `graftwork.load_states` and `graftwork.load_cells`."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graftwork.core.errors import DesignError, require_known
from graftwork.core.tables import read_table
from graftwork.core.yaml_files import read_yaml
from graftwork.design.cells import ModelRecord
from graftwork.design.encoding import natural_format
from graftwork.design.project import Project
from graftwork.jobs.extraction import extract_hidden_states
from graftwork.models.description import locate_model, resolve_layer
from graftwork.models.prompts import InputOptions, token_texts
from graftwork.models.tokens import ROLES
from graftwork.planning.keys import Keys
from graftwork.planning.shards import EncoderInputs, ExtractionShard, InputToExtract, ModelToLoad
from graftwork.store.layout import Store

if TYPE_CHECKING:
    import pandas as pd

_CONFIG = "config/config.yaml"


@dataclass(frozen=True)
class States:
    """One layer of one encoder input.

    Attributes:
        values: float32 (tokens, width).
        tokens: Text of each token, as the tokenizer writes it; its id where there is no tokenizer.
        roles: Role of each token, see `graftwork.models.tokens.ROLES`.
        positions: int64 (axes, tokens), positions of the rotary embedding.
        layer: Entry of transformers' `hidden_states`.
    """

    values: np.ndarray
    tokens: tuple[str, ...]
    roles: tuple[str, ...]
    positions: np.ndarray
    layer: int


def load_states(
    prompt: str,
    encoder: str,
    layer: int = -2,
    roles: Sequence[str] | None = None,
    *,
    reference: str | None = None,
    root: str | Path | None = None,
) -> States:
    """Returns the hidden states of a prompt as the workflow has them.

    They are read from the store under `results/`. What is not there is extracted with the hardware settings of
    config/config.yaml and stored, so that experiments find it too.

    Args:
        prompt: Text as you would type it; the encoder's chat template is added.
        encoder: Name of an encoder in the models file, or a role of the family that config/config.yaml chooses.
        layer: Layer as in `hidden_layer`: -2 is the last but one entry of transformers' `hidden_states`.
        roles: Roles of the tokens to return; None for all tokens.
        reference: Name or path of an image that the encoder sees before the prompt.
        root: Folder with `config/` and `results/`; by default this folder or the nearest above that has them.

    Raises:
        DesignError: for names that are not known, naming file and key.
        ValueError: for a layer that the encoder does not have, and for roles without tokens.
        RuntimeError: if the extraction fails, with its reason.
    """
    from graftwork.store.hidden_states import read_layer

    project = _project(root)
    model = project.encoder(encoder, "load_states: encoder")
    for role in roles or ():
        require_known(role, ROLES, "role", "load_states: roles")
    resolve_layer(layer, model.facts.num_hidden_layers)
    store = Store(project.root / "results/store")
    image = None if reference is None else project.reference(reference, "load_states: reference")
    keys = Keys({model.identity: ModelRecord.of(model)}, project.settings.hardware)
    options = InputOptions(prompt_format=natural_format(model))
    needed = keys.input_of(model.identity, prompt, image and image.sha256, layer, options)
    path = None if image is None else str(project.root / image.path)
    item = InputToExtract(needed.key, (needed.layer,), path, needed.input)
    record = extract_hidden_states(
        ExtractionShard(
            project.settings.hardware.extraction.model_dump(),
            (EncoderInputs(ModelToLoad(model.name, model.entry), (item,)),),
        ),
        store,
        logging.getLogger("graftwork"),
    )
    if record.failures:
        raise RuntimeError(f"hidden states of {prompt!r} from {model.name}: {record.failures[needed.key]}")
    project.save_facts()
    found = read_layer(store.hidden_states(needed.key), needed.layer)
    values = found.values if found.dtype == "float32" else _from_bfloat16(found.values)
    names = np.array([ROLES[code] for code in found.roles])
    kept = np.isin(names, list(roles)) if roles is not None else np.ones(len(names), dtype=bool)
    if not kept.any():
        there = ", ".join(dict.fromkeys(names.tolist()))
        raise ValueError(f"load_states: no token has the roles {list(roles or ())}; the input has {there}")
    ids, folder = found.token_ids.tolist(), locate_model(model.name, model.entry)
    texts = list(map(str, ids)) if folder is None else token_texts(model.entry, folder, ids)
    tokens = np.array(texts, dtype=object)
    return States(
        values[kept],
        tuple(tokens[kept]),
        tuple(names[kept].tolist()),
        found.positions[:, kept],
        needed.layer,
    )


def load_cells(experiment: str, root: str | Path | None = None) -> "pd.DataFrame":
    """Returns the cells of an experiment that was built: one row per cell, every parameter and measure as a column.

    Columns of numbers are numbers, with NaN where a cell has none; all others are texts, empty where a cell has none. `image` is
    the path of the image.

    Args:
        experiment: Name of the experiment.
        root: Folder with `config/` and `results/`; by default this folder or the nearest above that has them.

    Raises:
        DesignError: for an experiment that there is not, or that was not built.
    """
    import pandas as pd

    folder = _root(root)
    path = folder / "results" / experiment / "cells_full.csv"
    if not path.is_file():
        _project(folder).require_experiment(experiment, "load_cells: experiment")
        raise DesignError(
            f"load_cells: {path} does not exist; build results/{experiment}/cells.csv first, which is made with it"
        )
    cells = pd.DataFrame(read_table(path))
    for name in cells.columns:
        numbers = pd.to_numeric(cells[name].replace("", None), errors="coerce")
        if (
            name not in ("cell", "prompt")
            and numbers.notna().any()
            and not (numbers.isna() & (cells[name] != "")).any()
        ):
            cells[name] = numbers
    cells["image"] = [str(folder / image) if image else "" for image in cells["image"]]
    return cells


def _root(root: str | Path | None) -> Path:
    start = Path.cwd() if root is None else Path(root).resolve()
    for folder in (start, *start.parents) if root is None else (start,):
        if (folder / _CONFIG).is_file():
            return folder
    raise DesignError(f"{start}: there is no {_CONFIG} here or above; give `root`, the folder that has it")


def _project(root: str | Path | None) -> Project:
    folder = _root(root)
    return Project(read_yaml(folder / _CONFIG, _CONFIG), folder)


def _from_bfloat16(values: np.ndarray) -> np.ndarray:
    """Returns bfloat16 bits, uint16, as float32."""
    return (values.astype(np.uint32) << 16).view(np.float32)
