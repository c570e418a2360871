"""Loading an encoder, a generator or a scorer by its entry in config/models.yaml."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graftwork.models.acceleration import changed_settings
from graftwork.models.description import hub_patterns, hub_source, locate_model, missing_files
from graftwork.models.families import family_of, load_class
from graftwork.models.hardware import check_hardware

if TYPE_CHECKING:
    from graftwork.models.encoder import Captioner, Encoder
    from graftwork.models.families import GeneratorFamily
    from graftwork.models.generator import Generator
    from graftwork.models.reference_generator import ReferenceGenerator
    from graftwork.models.scorer import Scorer


def load_encoder(
    name: str, entry: Mapping[str, Any], layers: Sequence[int] | None, hardware: Mapping[str, Any]
) -> "Encoder":
    """Loads an encoder up to the deepest layer that is needed.

    Args:
        name: Name of the encoder in config/models.yaml.
        entry: `family`, `path` or `repo` and `revision`, optionally `subfolder` and `tokenizer_subfolder`.
        layers: Entries of `hidden_states`, non-negative, that will be asked for; None for all.
        hardware: See `configure_torch`. Offloading does not apply to a single model.

    Raises:
        ValueError: where the family is unknown, files are missing, or a value is not allowed.
        RuntimeError: where the model cannot be downloaded, or there is no such device.
    """
    check_hardware(hardware)
    # Imported where it is used: an encoder's classes take seconds that the others need not pay.
    encoder_class = load_class(family_of("encoder", entry, name).encoder)
    return encoder_class.load(ensure_model(name, entry, "encoder"), entry, layers, hardware)


def load_captioner(name: str, entry: Mapping[str, Any], hardware: Mapping[str, Any]) -> "Captioner":
    """Loads an encoder with its language model's head, to write about images.

    Args:
        name: Name of the encoder in config/models.yaml.
        entry: As for `load_encoder`.
        hardware: See `configure_torch`.

    Raises:
        ValueError: where the family writes nothing, files are missing, or a value is not allowed.
        RuntimeError: where the model cannot be downloaded, or there is no such device.
    """
    check_hardware(hardware)
    family = family_of("encoder", entry, name)
    if family.captioner is None:
        raise ValueError(
            f"encoder {name!r} of family {family.name} takes no images, and writes nothing about them"
        )
    return load_class(family.captioner).load(ensure_model(name, entry, "encoder"), entry, hardware)


def load_generator(name: str, entry: Mapping[str, Any], hardware: Mapping[str, Any]) -> "Generator":
    """Loads a generator without its text encoder.

    Args:
        name: Name of the generator in config/models.yaml.
        entry: `family`, and `path` or `repo` and `revision`.
        hardware: See `configure_torch`.

    Raises:
        ValueError: where the family is unknown, files are missing, or a value is not allowed.
        RuntimeError: where the model cannot be downloaded, or there is no such device.
    """
    check_hardware(hardware)
    family = family_of("generator", entry, name)
    check_settings(family, hardware)
    return load_class(family.generator).load(ensure_model(name, entry, "generator"), entry, hardware)


def load_reference_generator(
    name: str, entry: Mapping[str, Any], hardware: Mapping[str, Any]
) -> "ReferenceGenerator":
    """Loads a generator that is shown references, without its text encoder; see `load_generator`.

    Raises:
        ValueError: where the family takes no references, and as `load_generator`.
        RuntimeError: as `load_generator`.
    """
    check_hardware(hardware)
    family = family_of("generator", entry, name)
    if family.references is None:
        raise ValueError(f"generator {name!r} of family {family.name} takes no references")
    check_settings(family, hardware)
    generator_class = load_class(family.references.generator)
    return generator_class.load(ensure_model(name, entry, "generator"), entry, hardware)


def load_scorer(name: str, entry: Mapping[str, Any], hardware: Mapping[str, Any]) -> "Scorer":
    """Loads a scorer.

    Args:
        name: Name of the scorer in config/models.yaml.
        entry: `family`, and `path` or `repo` and `revision`.
        hardware: See `configure_torch`.

    Raises:
        ValueError: where the family is unknown, files are missing, or a value is not allowed.
        RuntimeError: where the model cannot be downloaded, or there is no such device.
    """
    check_hardware(hardware)
    scorer_class = load_class(family_of("scorer", entry, name).scorer)
    return scorer_class.load(ensure_model(name, entry, "scorer"), entry, hardware)


def check_settings(family: "GeneratorFamily", hardware: Mapping[str, Any]) -> None:
    """Refuses settings of `acceleration` that a family does not have.

    Raises:
        ValueError: naming the setting and what the family has.
    """
    changed = changed_settings(hardware)
    for setting in changed:
        if setting not in family.acceleration:
            raise ValueError(
                f"config/config.yaml: hardware.generation.{setting} cannot be used with generators of family "
                f"{family.name}, which has {', '.join(family.acceleration) or 'no such settings'}; leave it out"
            )
    backend = changed.get("attention_backend", "native")
    if backend not in family.attention_backends:
        raise ValueError(
            f"config/config.yaml: hardware.generation.attention_backend {backend!r} cannot be used with generators of "
            f"family {family.name}; allowed: {', '.join(family.attention_backends)}"
        )


def ensure_model(name: str, entry: Mapping[str, Any], kind: str) -> Path:
    """Returns the folder of a complete model, downloading it where it comes from the hub and is not here.

    Raises:
        ValueError: where a local folder does not exist or lacks files.
        RuntimeError: where a download fails, saying how to get the model.
    """
    section = f"config/models.yaml: {kind}s.{name}"
    folder = locate_model(name, entry)
    missing = missing_files(entry, kind, folder) if folder is not None else []
    if folder is not None and not missing:
        return folder
    if entry.get("path"):
        if folder is None:
            raise ValueError(f"folder {entry['path']} of {kind} {name!r} does not exist; set {section}.path")
        raise ValueError(f"folder {folder} of {kind} {name!r} lacks {', '.join(missing)}; set {section}.path")

    from huggingface_hub import snapshot_download

    repo, revision = hub_source(name, entry)
    try:
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=hub_patterns(entry, kind)))
    # The hub's client raises its own and its HTTP library's errors; all mean that there is no model.
    except Exception as error:
        raise RuntimeError(
            f"{kind} {name!r} ({repo} at {revision}) is not in the hub cache and cannot be downloaded: "
            f"{error}; run where the network is available, or set {section}.path to a local copy"
        ) from error
    missing = missing_files(entry, kind, folder)
    if missing:
        raise ValueError(f"{repo} at {revision} lacks {', '.join(missing)}; set {section}.repo or .revision")
    return folder
