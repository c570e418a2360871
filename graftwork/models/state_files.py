"""Files of hidden states: what their headers say, checked without reading a tensor.

A file has the states of one encoder input:

    layer_{k}      F32, F16 or BF16 (tokens, width), entry k of `hidden_states`: 0 is the embedding, k the output of block k
    token_ids      I64 or I32 (tokens,), optional
    roles          U8 (tokens,), optional: positions in the list of names that the metadata has under `roles`
    positions      I64 or I32 (axes, tokens), optional: rotary positions, 1 axis or 3 (M-RoPE)
    in_prompt      U8 or BOOL (tokens,), optional: tokens of the prompt, whatever their role

and in its metadata, texts all:

    prompt             text as written by the user
    reference_sha256   SHA-256 of the image file; missing or empty without one
    source             "hidden_states", or "vision_tower" for states that no text takes part in; the first where missing
    options            JSON of the fields of `prompts.InputOptions` that are not at their default
    roles              names out of `tokens.ROLES`, separated by spaces; needed with the tensor `roles`
    num_hidden_layers  blocks of the encoder, from which negative layers count; the highest layer of all files where missing

Other metadata is not read.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from graftwork.core.errors import shorten
from graftwork.models.prompts import NEUTRAL_OPTIONS, AskedInput, InputOptions
from graftwork.models.tokens import ROLES
from graftwork.models.weights import Header, read_header

LAYER = re.compile(r"layer_(0|[1-9]\d*)")
VISION_TOWER = "vision_tower"
_SOURCES = ("hidden_states", VISION_TOWER)
_LAYER_TYPES = ("F32", "F16", "BF16")
# Tensor beside the layers -> types, and number of dimensions; the last dimension is that of tokens.
_SEQUENCE = {
    "token_ids": (("I64", "I32"), 1),
    "roles": (("U8",), 1),
    "positions": (("I64", "I32"), 2),
    "in_prompt": (("U8", "BOOL"), 1),
}
_MOST_NAMED = 3


@dataclass(frozen=True)
class StatesFile:
    """One file.

    Attributes:
        path: Its path.
        asked: Input whose states it has.
        layers: Entries of `hidden_states` that it has, sorted.
        tokens: Number of tokens.
        width: Width of a state.
        tensors: Names of the tensors beside the layers that it has.
        role_names: Names of token roles, in the order of the codes of its tensor `roles`.
        num_hidden_layers: Blocks of the encoder; None where the file does not say it.
    """

    path: Path
    asked: AskedInput
    layers: tuple[int, ...]
    tokens: int
    width: int
    tensors: frozenset[str]
    role_names: tuple[str, ...]
    num_hidden_layers: int | None


class StatesIndex:
    """The files of a folder by their inputs.

    Attributes:
        num_hidden_layers: Blocks of the encoder.
        width: Width of a state.
        has_images: Whether an image takes part in a file.
    """

    def __init__(self, folder: Path):
        """Reads the headers of a folder.

        Raises:
            ValueError: naming file and tensor, where there is no file, one is not as described above, two are of the same
                input, or they are of different encoders.
        """
        self._folder = folder
        paths = sorted(folder.glob("*.safetensors"))
        if not paths:
            raise ValueError(f"{folder} has no file *.safetensors with hidden states")
        files = [describe_file(path) for path in paths]
        self._files: dict[str, StatesFile] = {}
        for file in files:
            other = self._files.setdefault(_name(file.asked), file)
            if other is not file:
                raise ValueError(
                    f"{file.path} and {other.path} are both of {_shown(file.asked)}; remove one, or give them the options that "
                    "they differ in"
                )
        self.width = files[0].width
        for file in files:
            if file.width != self.width:
                raise ValueError(
                    f"{file.path} has states of width {file.width}, {files[0].path} of {self.width}; put the states of each "
                    "encoder into a folder of its own"
                )
        highest = max(layer for file in files for layer in file.layers)
        said = {file.num_hidden_layers: file.path for file in files if file.num_hidden_layers is not None}
        if len(said) > 1:
            (one, first), (other, second) = list(said.items())[:2]
            raise ValueError(
                f"{first} has num_hidden_layers {one}, {second} {other}; put the states of each encoder into a folder of its own"
            )
        self.num_hidden_layers = next(iter(said), highest)
        if highest > self.num_hidden_layers:
            raise ValueError(
                f"{next(iter(said.values()))} has num_hidden_layers {self.num_hidden_layers}, but a file beside it has "
                f"layer_{highest}; correct the metadata"
            )
        self.has_images = any(file.asked.reference is not None for file in files)

    def find(self, asked: AskedInput) -> StatesFile | None:
        """Returns the file of an input, or None."""
        return self._files.get(_name(asked))

    def lacks(self, asked: AskedInput, layer: int) -> str | None:
        """Returns why there are no states of a layer of an input, with what there is, or None."""
        file = self.find(asked)
        if file is None:
            return f"{self._folder} has no file of {_shown(asked)}; {self._nearest(asked)}"
        if layer not in file.layers:
            there = ", ".join(map(str, file.layers))
            return (
                f"{file.path} has no tensor layer_{layer}, entry {layer} of hidden_states 0 to {self.num_hidden_layers}; it has "
                f"the layers {there}: choose another hidden_layer, or write that tensor"
            )
        return None

    def _nearest(self, asked: AskedInput) -> str:
        files = [file.asked for file in self._files.values()]
        same = [other for other in files if other.prompt == asked.prompt]
        shown = [_shown(other) for other in same or files]
        more = f" and {len(shown) - _MOST_NAMED} more" if len(shown) > _MOST_NAMED else ""
        return f"there are files of {'; '.join(shown[:_MOST_NAMED])}{more}"


def read_index(folder: Path) -> StatesIndex:
    """Returns the index of a folder, read once as long as its files stay as they are; raises as `StatesIndex`."""
    found = ((path.name, path.stat()) for path in sorted(folder.glob("*.safetensors")))
    return _read_index(folder, tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in found))


@lru_cache(maxsize=16)
def _read_index(folder: Path, stamp: tuple[tuple[str, int, int], ...]) -> StatesIndex:
    return StatesIndex(folder)


def describe_file(path: Path) -> StatesFile:
    """Returns what the header of a file says.

    Raises:
        ValueError: naming file and tensor or metadata, and what is allowed.
    """
    header = read_header(path)
    layers = sorted(int(match[1]) for name in header.shapes if (match := LAYER.fullmatch(name)))
    if not layers:
        raise ValueError(
            f"{path} has no tensor layer_{{k}} with the states of a layer, such as layer_35; it has "
            f"{', '.join(sorted(header.shapes)) or 'none'}"
        )
    shape = header.shapes[f"layer_{layers[0]}"]
    for layer in layers:
        _check_layer(path, header, f"layer_{layer}", shape)
    tokens, width = shape
    others = {name for name in header.shapes if not LAYER.fullmatch(name)}
    for name in sorted(others):
        _check_sequence(path, header, name, tokens)
    return StatesFile(
        path,
        _asked(path, header.metadata),
        tuple(layers),
        tokens,
        width,
        frozenset(others),
        _role_names(path, header.metadata, "roles" in others),
        _whole(path, header.metadata, "num_hidden_layers"),
    )


def _check_layer(path: Path, header: Header, name: str, shape: tuple[int, ...]) -> None:
    found, dtype = header.shapes[name], header.dtypes[name]
    if dtype not in _LAYER_TYPES:
        raise ValueError(f"{path}: {name} has the type {dtype}; allowed: {', '.join(_LAYER_TYPES)}")
    if len(found) != 2 or 0 in found:
        raise ValueError(
            f"{path}: {name} has the shape {list(found)}; (tokens, width) is needed, none of them 0"
        )
    if found != shape:
        raise ValueError(
            f"{path}: {name} has the shape {list(found)}, the first layer {list(shape)}; all layers of an input have one shape"
        )


def _check_sequence(path: Path, header: Header, name: str, tokens: int) -> None:
    if name not in _SEQUENCE:
        raise ValueError(f"{path}: tensor {name} is not known; allowed: layer_{{k}}, {', '.join(_SEQUENCE)}")
    types, dimensions = _SEQUENCE[name]
    found, dtype = header.shapes[name], header.dtypes[name]
    if dtype not in types:
        raise ValueError(f"{path}: {name} has the type {dtype}; allowed: {', '.join(types)}")
    axes = found[:-1] if len(found) == dimensions else ()
    if len(found) != dimensions or found[-1] != tokens or (dimensions == 2 and axes not in ((1,), (3,))):
        needed = f"[{tokens}]" if dimensions == 1 else f"[1, {tokens}] or [3, {tokens}]"
        raise ValueError(
            f"{path}: {name} has the shape {list(found)}; {needed} is needed, for its layers have {tokens} tokens"
        )


def _asked(path: Path, metadata: Mapping[str, str]) -> AskedInput:
    source = metadata.get("source") or _SOURCES[0]
    if source not in _SOURCES:
        raise ValueError(f"{path}: metadata source is {source!r}; allowed: {', '.join(_SOURCES)}")
    reference = metadata.get("reference_sha256") or None
    if source == VISION_TOWER:
        if reference is None:
            raise ValueError(
                f"{path}: metadata reference_sha256 is missing; states of a vision tower need it"
            )
        return AskedInput(None, reference, source)
    if "prompt" not in metadata:
        raise ValueError(f"{path}: metadata prompt is missing; write the text whose states these are")
    return AskedInput(metadata["prompt"], reference, source, _options(path, metadata.get("options") or "{}"))


def _options(path: Path, text: str) -> InputOptions:
    known = [field.name for field in fields(InputOptions)]
    try:
        given: Any = json.loads(text)
    except ValueError:
        given = None
    if not isinstance(given, dict) or not set(given) <= set(known):
        raise ValueError(
            f"{path}: metadata options is {shorten(text)}; allowed: a JSON mapping with the keys {', '.join(known)}"
        )
    return InputOptions(**given)


def options_text(options: InputOptions) -> str:
    """Returns the metadata `options` of an input: JSON of what is not at its default."""
    changed = {
        name: value for name, value in vars(options).items() if value != getattr(NEUTRAL_OPTIONS, name)
    }
    return json.dumps(changed, sort_keys=True, ensure_ascii=False)


def _role_names(path: Path, metadata: Mapping[str, str], is_needed: bool) -> tuple[str, ...]:
    names = tuple(metadata.get("roles", "").split()) if is_needed else ()
    unknown = [name for name in names if name not in ROLES]
    if unknown or (is_needed and not names):
        found = f"has {unknown[0]!r}" if unknown else "is missing"
        raise ValueError(
            f"{path}: metadata roles {found}; what the codes of the tensor roles stand for is needed, names out of "
            f"{', '.join(ROLES)}, separated by spaces"
        )
    return names


def _whole(path: Path, metadata: Mapping[str, str], name: str) -> int | None:
    text = metadata.get(name)
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{path}: metadata {name} is {text!r}; a whole number above 0 is needed")
    return int(text)


def _name(asked: AskedInput) -> str:
    return json.dumps([asked.prompt, asked.reference, asked.source, options_text(asked.options)])


def _shown(asked: AskedInput) -> str:
    """Returns an input in words."""
    parts = ["the vision tower" if asked.prompt is None else f"prompt {shorten(asked.prompt)}"]
    if asked.reference is not None:
        parts.append(f"image {asked.reference[:12]}")
    if (options := options_text(asked.options)) != "{}":
        parts.append(f"options {options}")
    return " with ".join(parts)
