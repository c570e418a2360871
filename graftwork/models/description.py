"""What a model is, read from its files alone: where it lies, which files decide its output, what it accepts.

Everything here is used while the workflow is parsed, so nothing imports torch, transformers or diffusers.
An `entry` is one mapping of `encoders` or `generators` in config/models.yaml.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graftwork.models.families import WEIGHT_PATTERNS, EncoderFacts, Facts, ModelFolder, family_of

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "special_tokens_map.json",
    "added_tokens.json",
)


# Where a model is


def locate_model(name: str, entry: Mapping[str, Any]) -> Path | None:
    """Finds the folder of a model on this machine, without the network.

    Args:
        name: Name of the model in config/models.yaml.
        entry: `path` (a local folder), or `repo` and `revision` (a hub id and a 40-digit commit).

    Returns:
        The resolved folder, or None where it does not exist (a hub model that was never downloaded).

    Raises:
        ValueError: where the entry names neither a path nor a repo with a full revision.
    """
    if entry.get("path"):
        folder = Path(entry["path"]).expanduser()
        return folder.resolve() if folder.is_dir() else None
    repo, revision = hub_source(name, entry)
    folder = hub_cache_folder() / f"models--{repo.replace('/', '--')}" / "snapshots" / revision
    # Not resolved: the files of a snapshot are links into a folder of blobs, which have no readable names.
    return folder.absolute() if folder.is_dir() else None


def hub_source(name: str, entry: Mapping[str, Any]) -> tuple[str, str]:
    """Returns (repo, revision) of a hub model.

    Raises:
        ValueError: where `repo` is missing or `revision` is not a full commit hash, since a branch name would
            let a model change without its identity changing.
    """
    repo, revision = entry.get("repo"), str(entry.get("revision", ""))
    if not repo:
        raise ValueError(
            f"model {name!r} has neither a local folder nor a hub id; "
            f"set config/models.yaml: encoders.{name}.path or .repo (generators.{name} for a generator)"
        )
    if len(revision) != 40 or any(digit not in "0123456789abcdef" for digit in revision):
        raise ValueError(
            f"revision {revision!r} of model {name!r} is not a commit hash of 40 lower-case hexadecimal "
            f"digits; set config/models.yaml: encoders.{name}.revision (generators.{name} for a generator)"
        )
    return repo, revision


def hub_cache_folder() -> Path:
    """Returns the hub's cache folder, from the variables that huggingface_hub reads."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.path.expandvars(os.environ[variable])).expanduser()
    home = os.environ.get("HF_HOME")
    if not home:
        home = os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")
    return Path(os.path.expandvars(home)).expanduser() / "hub"


# Which files a model has


def model_folders(entry: Mapping[str, Any], kind: str) -> tuple[ModelFolder, ...]:
    """Returns the folders of a model with the files that decide its output.

    An encoder has weights, config, tokenizer and image processor; a generator has what its family says, and not the text
    encoder that lies beside it.

    Raises:
        ValueError: where `kind` is not "encoder" or "generator", or the family is unknown.
    """
    family = family_of(kind, entry)
    if kind == "generator":
        return family.folders
    return (
        ModelFolder(
            entry.get("subfolder") or "",
            ("config.json", *WEIGHT_PATTERNS),
            ("config.json",),
            has_weights=True,
        ),
        ModelFolder(
            entry.get("tokenizer_subfolder") or "",
            (*TOKENIZER_FILES, *family.processor_files),
            ("tokenizer.json", "tokenizer_config.json", *family.required_processor_files),
        ),
    )


def model_files(entry: Mapping[str, Any], kind: str, folder: Path) -> list[Path]:
    """Lists the files that decide a model's output, as sorted paths relative to `folder`."""
    files = {
        file
        for part in model_folders(entry, kind)
        for pattern in part.patterns
        for file in (folder / part.folder).glob(pattern)
    }
    return sorted((file.relative_to(folder) for file in files if file.is_file()), key=Path.as_posix)


def hub_patterns(entry: Mapping[str, Any], kind: str) -> list[str]:
    """Lists the file patterns to download for a hub model: those that `model_files` would list."""
    return [
        (Path(part.folder) / pattern).as_posix()
        for part in model_folders(entry, kind)
        for pattern in part.patterns
    ]


def missing_files(entry: Mapping[str, Any], kind: str, folder: Path) -> list[str]:
    """Lists what a complete model would have and this folder lacks, as relative POSIX paths.

    Where no weights are there at all, the entry is a pattern (`transformer/*.safetensors`).
    """
    missing = []
    for part in model_folders(entry, kind):
        own = folder / part.folder
        missing += [own / name for name in part.required if not (own / name).is_file()]
        if part.has_weights:
            missing += _missing_weights(own)
    return sorted({file.relative_to(folder).as_posix() for file in missing})


def _missing_weights(folder: Path) -> list[Path]:
    indices = list(folder.glob("*.safetensors.index.json"))
    if not indices and not any(folder.glob("*.safetensors")):
        return [folder / "*.safetensors"]
    shards = {shard for index in indices for shard in read_json(index)["weight_map"].values()}
    return [folder / shard for shard in shards if not (folder / shard).is_file()]


def encoder_folders(entry: Mapping[str, Any], folder: Path) -> tuple[Path, Path]:
    """Returns the folder of an encoder's weights and config, and that of its tokenizer."""
    return folder / (entry.get("subfolder") or ""), folder / (entry.get("tokenizer_subfolder") or "")


# What a model is


def describe_model(entry: Mapping[str, Any], kind: str, folder: Path, name: str = "NAME") -> Facts:
    """Returns the facts about a model that validation and planning need.

    Args:
        entry: The model in config/models.yaml.
        kind: "encoder" or "generator".
        folder: Where it lies, complete.
        name: Name of the model, for messages.

    Raises:
        ValueError: where the family is unknown or the files are of another one.
    """
    family = family_of(kind, entry, name)
    if kind == "encoder":
        weights, tokenizer = encoder_folders(entry, folder)
        _check_class(name, family, kind, weights / "config.json", "model_type", family.model_type)
        return family.read_facts(weights, tokenizer)
    _check_class(
        name, family, kind, folder / "transformer" / "config.json", "_class_name", family.transformer_class
    )
    return family.read_facts(folder)


def _check_class(name: str, family: Any, kind: str, file: Path, key: str, expected: str) -> None:
    found = read_json(file).get(key)
    if found != expected:
        raise ValueError(
            f"{kind} {name!r} has family {family.name!r}, but {file} has {key} {found!r}, not {expected!r}; set "
            f"config/models.yaml: {kind}s.{name}.family or .path"
        )


def read_encoder_facts(family: str, text_config: Mapping[str, Any], tokenizer_folder: Path) -> EncoderFacts:
    """Returns the facts of an encoder of text.

    Args:
        family: Name of its family.
        text_config: Configuration of its language model in transformers.
        tokenizer_folder: Where tokenizer and chat template are.
    """
    tokens = added_tokens(tokenizer_folder)
    rope = text_config.get("rope_parameters") or {}
    return EncoderFacts(
        family=family,
        num_hidden_layers=text_config["num_hidden_layers"],
        hidden_size=text_config["hidden_size"],
        accepts_images=False,
        rope_theta=float(text_config.get("rope_theta") or rope.get("rope_theta")),
        special_tokens=[tokens[index] for index in sorted(tokens)],
        has_chat_template=read_chat_template(tokenizer_folder) is not None,
    )


def resolve_layer(layer: int, num_hidden_layers: int) -> int:
    """Turns a layer as people say it into an index of `hidden_states`.

    Args:
        layer: 0 is the embeddings, k the output of block k, -1 the last entry, which has the final norm.
        num_hidden_layers: Blocks of the encoder; `hidden_states` has one entry more.

    Raises:
        ValueError: where there is no such entry.
    """
    entries = num_hidden_layers + 1
    if isinstance(layer, bool) or not isinstance(layer, int) or not -entries <= layer < entries:
        raise ValueError(
            f"hidden_layer {layer!r} does not exist: an encoder of {num_hidden_layers} layers has "
            f"{-entries} to {num_hidden_layers}; set hidden_layer in config/experiments/*.yaml"
        )
    return layer % entries


def read_chat_template(tokenizer_folder: Path) -> str | None:
    """Returns the source of the chat template, from wherever the libraries have put it over time."""
    file = tokenizer_folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    for name in ("tokenizer_config.json", "chat_template.json"):
        file = tokenizer_folder / name
        template = read_json(file).get("chat_template") if file.is_file() else None
        if isinstance(template, list):
            template = next((item["template"] for item in template if item["name"] == "default"), None)
        if template:
            return template
    return None


def added_tokens(tokenizer_folder: Path) -> dict[int, str]:
    """Returns id -> text of every added token of a tokenizer."""
    added = read_json(tokenizer_folder / "tokenizer.json")["added_tokens"]
    return {token["id"]: token["content"] for token in added}


def read_json(file: Path) -> dict[str, Any]:
    """Returns the content of a JSON file."""
    return json.loads(file.read_text(encoding="utf-8"))
