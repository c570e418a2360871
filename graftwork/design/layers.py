"""Layers of a cell: those that its generator is conditioned on, and what takes their place."""

from collections.abc import Mapping
from typing import Any

from graftwork.core.errors import DesignError
from graftwork.models.catalog import Model


def fill_in_layers(values: Mapping[str, Any], generator: Model, file: str) -> dict[str, Any]:
    """Returns a cell's parameters with its layers as they are resolved.

    `text_hidden_layer` is one layer, or a list of those that the generator takes. With one layer, `hidden_layer` is what
    takes its place; with a list it says this for each, as text, in the order of the list.

    Args:
        values: Parameters of a cell; `hidden_layer` is missing for a baseline.
        generator: Generator of the cell.
        file: Path of the experiment, for messages.

    Raises:
        DesignError: naming the value, what is allowed, and the key.
    """
    filled, trained = dict(values), list(generator.facts.conditioning_layers)
    own = filled["text_hidden_layer"]
    own = trained if own is None else own if isinstance(own, list) else [own]
    if len(own) != len(trained):
        raise DesignError(
            f"{file}: text_hidden_layer {values['text_hidden_layer']} has {len(own)} layers, but generator "
            f"{generator.name!r} takes {len(trained)}; it was trained on {_named(trained)}"
        )
    filled["text_hidden_layer"] = own if len(own) > 1 else own[0]
    if "hidden_layer" in filled:
        replaced_by = _replaced_by(filled["hidden_layer"], own, trained, generator, file)
        filled["hidden_layer"] = replaced_by if len(own) > 1 else next(iter(replaced_by.values()))
    return filled


def _replaced_by(
    chosen: Any, own: list[int], trained: list[int], generator: Model, file: str
) -> dict[str, int | list[int]]:
    """Returns layer of the generator -> what takes its place, without those that stay the text."""
    if isinstance(chosen, Mapping):
        unknown = [layer for layer in chosen if layer not in own]
        if unknown:
            raise DesignError(
                f"{file}: hidden_layer {dict(chosen)} names layer {unknown[0]}, which is none of generator "
                f"{generator.name!r}; allowed: {_named(own)}"
            )
        return {str(layer): chosen[layer] for layer in own if layer in chosen}
    in_place = {None: trained, "same": own}.get(chosen if isinstance(chosen, str | None) else "")
    if in_place is None:
        in_place = [chosen] * len(own)
    return {str(layer): other for layer, other in zip(own, in_place, strict=True)}


def replacements(values: Mapping[str, Any]) -> dict[int, Any]:
    """Returns layer of the generator -> what takes its place, for a cell whose layers are filled in.

    Args:
        values: Parameters of a cell that has a source.
    """
    if isinstance(values["text_hidden_layer"], list):
        return {int(layer): other for layer, other in values["hidden_layer"].items()}
    return {values["text_hidden_layer"]: values["hidden_layer"]}


def layers_of(hidden_layer: int | list[int]) -> tuple[int, ...]:
    """Returns the layers that the source of one layer is made of."""
    return tuple(hidden_layer) if isinstance(hidden_layer, list) else (hidden_layer,)


def _named(layers: list[int]) -> str:
    return ", ".join(map(str, layers))
