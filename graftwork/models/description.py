"""What a model is, read from its files alone: where it lies, which files decide its output, what it accepts.

Everything here is used while the workflow is parsed, so nothing imports torch, transformers or diffusers.
An `entry` is one mapping of `encoders` or `generators` in config/models.yaml.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ENCODER_FAMILIES = ("qwen3", "qwen3_vl")
GENERATOR_FAMILIES = ("z_image",)
KINDS = ("encoder", "generator")

# Captions are padded to a multiple of this (`SEQ_MULTI_OF` in diffusers' transformer_z_image).
CAPTION_MULTIPLE = 32

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
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
GENERATOR_PARTS = ("transformer", "vae", "scheduler")


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


def model_files(entry: Mapping[str, Any], kind: str, folder: Path) -> list[Path]:
    """Lists the files that decide a model's output, as sorted paths relative to `folder`.

    An encoder has weights, config, tokenizer and image processor; a generator has its transformer, VAE and
    scheduler, and not the text encoder that lies beside them.

    Raises:
        ValueError: where `kind` is not one of `KINDS`.
    """
    _check_kind(kind)
    files: set[Path] = set()
    if kind == "encoder":
        weights, tokenizer = encoder_folders(entry, folder)
        files.add(weights / "config.json")
        files.update(weights.glob("*.safetensors"))
        files.update(weights.glob("*.safetensors.index.json"))
        files.update(tokenizer / name for name in TOKENIZER_FILES)
        if entry["family"] == "qwen3_vl":
            files.update(tokenizer / name for name in PROCESSOR_FILES)
    else:
        files.add(folder / "model_index.json")
        for part in GENERATOR_PARTS:
            files.update((folder / part).glob("*.json"))
            files.update((folder / part).glob("*.safetensors"))
    return sorted((file.relative_to(folder) for file in files if file.is_file()), key=Path.as_posix)


def hub_patterns(entry: Mapping[str, Any], kind: str) -> list[str]:
    """Lists the file patterns to download for a hub model: those that `model_files` would list."""
    _check_kind(kind)
    if kind == "generator":
        return [
            "model_index.json",
            *(f"{part}/*.{end}" for part in GENERATOR_PARTS for end in ("json", "safetensors")),
        ]
    root = Path()
    weights, tokenizer = (path.as_posix() for path in encoder_folders(entry, root))
    weights, tokenizer = ("" if path == "." else f"{path}/" for path in (weights, tokenizer))
    names = (*TOKENIZER_FILES, *PROCESSOR_FILES)
    return [f"{weights}config.json", f"{weights}*.safetensors", f"{weights}*.safetensors.index.json"] + [
        f"{tokenizer}{name}" for name in names
    ]


def missing_files(entry: Mapping[str, Any], kind: str, folder: Path) -> list[str]:
    """Lists what a complete model would have and this folder lacks, as relative POSIX paths.

    Where no weights are there at all, the entry is a pattern (`transformer/*.safetensors`).
    """
    _check_kind(kind)
    missing: list[str] = []
    if kind == "encoder":
        weights, tokenizer = encoder_folders(entry, folder)
        _require(missing, folder, weights / "config.json")
        _require_weights(missing, folder, weights)
        _require(missing, folder, tokenizer / "tokenizer.json")
        _require(missing, folder, tokenizer / "tokenizer_config.json")
        if entry["family"] == "qwen3_vl":
            _require(missing, folder, tokenizer / "preprocessor_config.json")
    else:
        _require(missing, folder, folder / "model_index.json")
        for part in ("transformer", "vae"):
            _require(missing, folder, folder / part / "config.json")
            _require_weights(missing, folder, folder / part)
        _require(missing, folder, folder / "scheduler" / "scheduler_config.json")
    return sorted(missing)


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} of a model is not one of {', '.join(KINDS)}")


def encoder_folders(entry: Mapping[str, Any], folder: Path) -> tuple[Path, Path]:
    """Returns the folder of an encoder's weights and config, and that of its tokenizer."""
    return folder / (entry.get("subfolder") or ""), folder / (entry.get("tokenizer_subfolder") or "")


def _require(missing: list[str], folder: Path, file: Path) -> None:
    if not file.is_file():
        missing.append(file.relative_to(folder).as_posix())


def _require_weights(missing: list[str], folder: Path, weights: Path) -> None:
    indices = sorted(weights.glob("*.safetensors.index.json"))
    for index in indices:
        for shard in sorted(set(read_json(index)["weight_map"].values())):
            _require(missing, folder, weights / shard)
    if not indices and not any(weights.glob("*.safetensors")):
        missing.append((weights / "*.safetensors").relative_to(folder).as_posix())


# What a model is


def describe_encoder(entry: Mapping[str, Any], folder: Path, name: str = "NAME") -> dict[str, Any]:
    """Returns the facts about an encoder that validation and planning need, as plain JSON values.

    Returns:
        `family`, `num_hidden_layers`, `hidden_size`, `accepts_images`, `rope_theta`, `special_tokens` (every
        added token of the tokenizer), `has_chat_template`, and for encoders of images also `image_token`,
        `patch_size`, `spatial_merge_size` and `deepstack_layers` (how many first blocks get visual features
        added); None for the others.

    Raises:
        ValueError: where the family is unknown or the files are of another one.
    """
    family = entry.get("family")
    if family not in ENCODER_FAMILIES:
        raise ValueError(
            f"family {family!r} of encoder {name!r} is not one of {', '.join(ENCODER_FAMILIES)}; "
            f"set config/models.yaml: encoders.{name}.family"
        )
    weights, tokenizer = encoder_folders(entry, folder)
    config = read_json(weights / "config.json")
    if config.get("model_type") != family:
        raise ValueError(
            f"encoder {name!r} has family {family!r}, but {weights / 'config.json'} has model_type "
            f"{config.get('model_type')!r}; set config/models.yaml: encoders.{name}.family or .path"
        )
    text = config if family == "qwen3" else config["text_config"]
    vision = config.get("vision_config")
    tokens = _added_tokens(tokenizer)
    rope = text.get("rope_parameters") or {}
    return {
        "family": family,
        "num_hidden_layers": text["num_hidden_layers"],
        "hidden_size": text["hidden_size"],
        "accepts_images": vision is not None,
        "rope_theta": float(text.get("rope_theta") or rope.get("rope_theta")),
        "special_tokens": [tokens[index] for index in sorted(tokens)],
        "has_chat_template": read_chat_template(tokenizer) is not None,
        "image_token": tokens.get(config["image_token_id"]) if vision else None,
        "patch_size": vision["patch_size"] if vision else None,
        "spatial_merge_size": vision["spatial_merge_size"] if vision else None,
        "deepstack_layers": len(vision["deepstack_visual_indexes"]) if vision else None,
    }


def describe_generator(entry: Mapping[str, Any], folder: Path, name: str = "NAME") -> dict[str, Any]:
    """Returns the facts about a generator that validation and planning need, as plain JSON values.

    Returns:
        `family`, `caption_channels` (width of a caption token), `max_caption_tokens`, `size_multiple`
        (pixels), `latent_channels` and `scheduler_config` without the keys that only say which library wrote
        it.

    Raises:
        ValueError: where the family is unknown or the folder is of another one.
    """
    family = entry.get("family")
    if family not in GENERATOR_FAMILIES:
        raise ValueError(
            f"family {family!r} of generator {name!r} is not one of {', '.join(GENERATOR_FAMILIES)}; "
            f"set config/models.yaml: generators.{name}.family"
        )
    transformer = read_json(folder / "transformer" / "config.json")
    if transformer.get("_class_name") != "ZImageTransformer2DModel":
        raise ValueError(
            f"generator {name!r} has family {family!r}, but its transformer is a "
            f"{transformer.get('_class_name')!r}; set config/models.yaml: generators.{name}.family or .path"
        )
    vae = read_json(folder / "vae" / "config.json")
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    return {
        "family": family,
        "caption_channels": transformer["cap_feat_dim"],
        "max_caption_tokens": max_caption_tokens(transformer["axes_lens"]),
        "size_multiple": 2 ** (len(vae["block_out_channels"]) - 1) * 2,
        "latent_channels": transformer["in_channels"],
        "scheduler_config": {key: value for key, value in scheduler.items() if not key.startswith("_")},
    }


def max_caption_tokens(axes_lens: Sequence[int]) -> int:
    """Returns the longest caption in tokens: with padding, it and the image's frame index must fit axis 0."""
    return (axes_lens[0] - 2) // CAPTION_MULTIPLE * CAPTION_MULTIPLE


def padded_length(tokens: int) -> int:
    """Returns the length of a caption of `tokens` tokens once the transformer has padded it."""
    return math.ceil(tokens / CAPTION_MULTIPLE) * CAPTION_MULTIPLE


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


def _added_tokens(tokenizer_folder: Path) -> dict[int, str]:
    added = read_json(tokenizer_folder / "tokenizer.json")["added_tokens"]
    return {token["id"]: token["content"] for token in added}


def read_json(file: Path) -> dict[str, Any]:
    """Returns the content of a JSON file."""
    return json.loads(file.read_text(encoding="utf-8"))
