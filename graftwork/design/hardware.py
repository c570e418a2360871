"""Presets of hardware settings: files in config/hardware/, one of them chosen by name or by the cards of this machine."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from graftwork.core.errors import DesignError, explain, require_known
from graftwork.core.progress import format_bytes
from graftwork.core.shipped import HOME
from graftwork.core.yaml_files import read_yaml
from graftwork.design.settings import AUTO, Hardware, HardwarePreset
from graftwork.models.cards import Card, cuda_of_torch, find_cards

HARDWARE_FOLDER = "config/hardware"
# What `auto` chose in the process that the user started; the jobs, on whatever machine they run, keep to it.
CHOSEN = "GRAFTWORK_HARDWARE_PRESET"
_BYTES_PER_GB = 10**9


@dataclass(frozen=True)
class ChosenHardware:
    """Hardware settings with those of their preset.

    Attributes:
        settings: The settings; `preset` is gone.
        preset: Name of the preset; None where there is none.
        note: cards that `auto` found and its choice, for the terminal; empty where it was not asked for.
    """

    settings: Mapping[str, Any]
    preset: str | None
    note: str

    @property
    def lines(self) -> list[str]:
        """The note as lines for the terminal."""
        return [f"graftwork: {self.note}"] if self.note else []


def choose_hardware(given: Any, root: Path, file: str) -> ChosenHardware:
    """Returns hardware settings in which the preset stands for what is not given.

    Args:
        given: `hardware` of the configuration, not validated.
        root: Working directory. Its config/hardware/ comes before the one beside this library.
        file: Path of the configuration, for messages.

    Raises:
        DesignError: for a preset that there is not, and for what is wrong in its file.
    """
    preset = given.get("preset") if isinstance(given, Mapping) else None
    if not isinstance(preset, str):
        # Nothing to choose, or something that validation refuses.
        return ChosenHardware(given, None, "")
    own = {key: value for key, value in given.items() if key != "preset"}
    presets = _preset_files(root)
    require_known(preset, [*presets, AUTO], f"file in {HARDWARE_FOLDER}/", f"{file}: hardware.preset")
    note = ""
    if preset == AUTO:
        known = {name: _read(path, name) for name, path in presets.items()}
        preset, gpus, note = _choose(known, file)
        own.setdefault("gpus", gpus)
    values = _read(presets[preset], preset).model_dump(exclude_unset=True, exclude={"least_memory_gb"})
    return ChosenHardware(_merged(values, own), preset, note)


def keep_choice(chosen: ChosenHardware) -> None:
    """Lets the processes that this one starts find what `auto` has chosen, in place of looking for cards themselves."""
    if chosen.note:
        os.environ[CHOSEN] = f"{chosen.preset}:{chosen.settings['gpus']}"


def _preset_files(root: Path) -> dict[str, Path]:
    folders = (HOME / HARDWARE_FOLDER, root / HARDWARE_FOLDER)
    return {file.stem: file for folder in folders for file in sorted(folder.glob("*.yaml"))}


def _read(path: Path, name: str) -> HardwarePreset:
    shown = f"{HARDWARE_FOLDER}/{name}.yaml"
    try:
        return HardwarePreset.model_validate(read_yaml(path, shown))
    except ValidationError as error:
        raise explain(error, shown, HardwarePreset) from error


def _merged(values: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of a preset with those that were given in their places."""
    merged = {**values, **own}
    for step in Hardware.model_fields:
        if isinstance(values.get(step), Mapping) and isinstance(own.get(step), Mapping):
            merged[step] = {**values[step], **own[step]}
    return merged


def _choose(presets: Mapping[str, HardwarePreset], file: str) -> tuple[str, int, str]:
    """Returns the name of the preset for this machine, how many cards it has, and a line that says so."""
    earlier, _, gpus = os.environ.get(CHOSEN, "").partition(":")
    if earlier in presets:
        return earlier, int(gpus), ""
    cards, cuda = find_cards(), cuda_of_torch()
    usable = cards if cuda else []
    smallest = min((card.memory for card in usable), default=0)
    fitting = {
        name: preset.least_memory_gb
        for name, preset in presets.items()
        if preset.least_memory_gb * _BYTES_PER_GB <= smallest or not preset.least_memory_gb
    }
    if not fitting:
        raise DesignError(
            f"{file}: hardware.preset: no file in {HARDWARE_FOLDER}/ fits this machine ({_found(cards, cuda)}); name one"
        )
    name = max(fitting, key=fitting.__getitem__)
    note = f"hardware {name} ({HARDWARE_FOLDER}/{name}.yaml), because this machine has {_found(cards, cuda)}"
    return name, max(len(usable), 1), note


def _found(cards: list[Card], cuda: str | None) -> str:
    if not cards:
        return "no NVIDIA card"
    first = f"{len(cards)} x {cards[0].name} with {format_bytes(min(card.memory for card in cards))}"
    if cuda is None:
        return f"{first}, but torch is a build without CUDA (`make setup LOCK=cuda` installs the other)"
    return f"{first}, driver {cards[0].driver}, and torch for CUDA {cuda}"
