"""Configuration files of models: JSON whose values are asked for by key and type, or refused with file and key."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graftwork.core.errors import shorten


def read_json(file: Path) -> dict[str, Any]:
    """Returns the content of a JSON file of a model.

    Raises:
        ValueError: naming the file, where it cannot be read or holds no mapping.
    """
    again = "copy or download the model again"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file} is no readable JSON ({shorten(str(error))}); {again}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds {type_name(content)}, not a mapping of keys to values; {again}")
    return content


def type_name(value: object) -> str:
    """Returns what people call the type of a value in JSON."""
    names = {list: "a list", dict: "a mapping", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def conditioning_layers(
    entry: Mapping[str, Any], default: Sequence[int], most: int | None = None
) -> tuple[int, ...]:
    """Returns the layers of its text encoder that a generator was trained on.

    Args:
        entry: Its entry in config/models.yaml, where `text_hidden_layer` comes before the default.
        default: value of the files of the checkpoint, or of the family.
        most: Most layers that the family takes; None for any number.

    Raises:
        ValueError: where the entry has other layers than a list of different whole numbers.
    """
    given = entry.get("text_hidden_layer")
    layers = default if given is None else given if isinstance(given, list) else [given]
    if not layers or any(type(layer) is not int for layer in layers) or len(set(layers)) < len(layers):
        raise ValueError(f"text_hidden_layer {given!r} is no list of different whole numbers")
    if most is not None and len(layers) > most:
        raise ValueError(f"text_hidden_layer {given!r} has more layers than the {most} that its family takes")
    return tuple(layers)


def refuse_keys(entry: Mapping[str, Any], *keys: str) -> None:
    """Refuses keys of config/models.yaml that say nothing of a family.

    Raises:
        ValueError: naming the key and its value.
    """
    for key in keys:
        if entry.get(key) is not None:
            raise ValueError(f"{key} {entry[key]!r} says nothing of family {entry['family']}; leave it out")


class ConfigFile:
    """A configuration of a model, whose values are asked for by key and type.

    Every method raises ValueError, naming the file and the key, for a value that is missing or of another type.
    """

    def __init__(self, file: Path, values: Mapping[str, Any] | None = None, prefix: str = ""):
        """Reads a file.

        Args:
            file: JSON file.
            values: A part of its content; all of it by default.
            prefix: Keys that lead to that part, for messages.
        """
        self.file = file
        self.values = read_json(file) if values is None else values
        self._prefix = prefix

    def whole(self, key: str, default: int | None = None) -> int:
        """Returns a whole number above 0."""
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.wrong(key, "a whole number above 0")
        return value

    def number(self, key: str) -> float:
        """Returns a number above 0."""
        value = self.values.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise self.wrong(key, "a number above 0")
        return float(value)

    def whole_list(self, key: str) -> list[int]:
        """Returns a list of whole numbers, which is not empty."""
        value = self.values.get(key)
        if (
            not isinstance(value, list)
            or not value
            or any(type(item) is not int or item < 0 for item in value)
        ):
            raise self.wrong(key, "a list of whole numbers")
        return value

    def section(self, key: str) -> "ConfigFile":
        """Returns a part of the configuration that is a mapping."""
        value = self.values.get(key)
        if not isinstance(value, dict):
            raise self.wrong(key, "a mapping")
        return ConfigFile(self.file, value, f"{self._prefix}{key}.")

    def wrong(self, key: str, needed: str) -> ValueError:
        """Returns the error for a value that is not what is needed."""
        found = f"is {shorten(self.values[key])}" if key in self.values else "is missing"
        return ValueError(f"{self.file}: {self._prefix}{key} {found}; {needed} is needed there")


def decoder_shapes(config: ConfigFile) -> dict[str, tuple[int, ...]]:
    """Returns the weights that the configuration of an `AutoencoderKL` in diffusers, or one like it, asks for."""
    widths, latents = config.whole_list("block_out_channels"), config.whole("latent_channels")
    if config.values.get("decoder_block_out_channels") is not None:
        widths = config.whole_list("decoder_block_out_channels")
    colours = config.whole("out_channels")
    shapes: dict[str, tuple[int, ...]] = {
        "decoder.conv_in.weight": (widths[-1], latents, 3, 3),
        "decoder.conv_out.weight": (colours, widths[0], 3, 3),
    }
    for block, width in enumerate(reversed(widths)):
        for layer in range(config.whole("layers_per_block") + 1):
            shapes[f"decoder.up_blocks.{block}.resnets.{layer}.conv2.weight"] = (width, width, 3, 3)
    return shapes
