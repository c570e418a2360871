"""Hidden states for other programs: safetensors files, and a table that says what is in them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from safetensors import TensorSpec, serialize

from graftwork.core.atomic import write_atomic
from graftwork.core.labels import slugify
from graftwork.design.cells import ModelRecord
from graftwork.models.state_files import options_text
from graftwork.models.tokens import ROLES
from graftwork.planning.keys import NeededInput
from graftwork.store.hidden_states import DamagedHiddenStates, read_layer
from graftwork.store.layout import Store
from graftwork.store.records import EncoderInput

# What the metadata of a file has of its row in the index.
_SHOWN = ("encoder", "prompt", "reference", "source")
STATES_COLUMNS = ("file", "encoder", "prompt", "reference", "source", "layers", "tokens", "error")


def export_states(
    needs: Iterable[NeededInput],
    encoders: Mapping[str, ModelRecord],
    references: Mapping[str, str],
    places: tuple[Store, Path],
) -> list[dict[str, str]]:
    """Writes one safetensors file per encoder input, removes those of inputs that are gone, and returns an index.

    Those of an encoder are in a folder of their own. What a file has is described in
    `graftwork.models.state_files.py`: the folder of an encoder can take its place.

    Args:
        needs: Layers of encoder inputs.
        encoders: Identity -> encoder.
        references: SHA-256 -> path of a reference.
        places: The store, and the folder to write to.

    Returns:
        A row of `STATES_COLUMNS` for each input; `file` is empty where `error` says why there is none.
    """
    store, folder = places
    layers: dict[str, set[int]] = defaultdict(set)
    inputs: dict[str, EncoderInput] = {}
    for need in needs:
        layers[need.key].add(need.layer)
        inputs[need.key] = need.input
    index = []
    for key, made in inputs.items():
        row = {
            "file": f"{slugify(encoders[made.encoder].name)}/{key}.safetensors",
            "encoder": encoders[made.encoder].name,
            "prompt": made.prompt or "",
            "reference": references.get(made.reference or "", made.reference or ""),
            "source": made.source,
            "layers": " ".join(map(str, sorted(layers[key]))),
        }
        try:
            content, tokens = _content(
                store.hidden_states(key),
                sorted(layers[key]),
                {**metadata_of(made, encoders[made.encoder]), **{name: row[name] for name in _SHOWN}},
            )
        except DamagedHiddenStates as error:
            index.append({**row, "file": "", "tokens": "", "error": str(error)})
            continue
        write_atomic(folder / row["file"], content)
        index.append({**row, "tokens": str(tokens), "error": ""})
    written = {row["file"] for row in index}
    # Files of earlier versions lie beside the folders of encoders.
    for old in [*folder.glob("*.safetensors"), *folder.glob("*/*.safetensors")]:
        if old.relative_to(folder).as_posix() not in written:
            old.unlink()
    return index


def metadata_of(made: EncoderInput, encoder: ModelRecord) -> dict[str, str]:
    """Returns what a file of states says about the input besides prompt and source."""
    return {
        "reference_sha256": made.reference or "",
        "options": options_text(made.options),
        "num_hidden_layers": str(encoder.facts.num_hidden_layers),
    }


def _content(path: Path, layers: list[int], about: Mapping[str, str]) -> tuple[bytes, int]:
    """Returns the bytes of a file and its number of tokens."""
    read = {layer: read_layer(path, layer) for layer in layers}
    first = read[layers[0]]
    # bfloat16 comes as the uint16 with the same bits.
    arrays = {f"layer_{layer}": (states.values, states.dtype) for layer, states in read.items()}
    arrays["token_ids"] = (first.token_ids, "int64")
    arrays["positions"] = (first.positions, "int64")
    arrays["roles"] = (first.roles, "uint8")
    arrays["in_prompt"] = (first.in_prompt.astype(np.uint8), "uint8")
    # Kept until they are serialized, for a specification has an address alone.
    kept = {name: np.ascontiguousarray(values) for name, (values, _) in arrays.items()}
    tensors = {
        name: TensorSpec(
            dtype=dtype, shape=kept[name].shape, data_ptr=kept[name].ctypes.data, data_len=kept[name].nbytes
        )
        for name, (_, dtype) in arrays.items()
    }
    return bytes(serialize(tensors, {**about, "roles": " ".join(ROLES)})), len(first.token_ids)
