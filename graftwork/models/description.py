"""Description of a model, read from its files alone: where it lies, which files decide its output, what it accepts.

Everything here is used while the workflow is parsed, so nothing imports torch, transformers or diffusers.
An `entry` is one mapping of `encoders`, `generators` or `scorers` in config/models.yaml.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graftwork.core.errors import shorten
from graftwork.core.shipped import own_or_shipped
from graftwork.models.config_files import ConfigFile, read_json, type_name
from graftwork.models.families import (
    WEIGHT_PATTERNS,
    EncoderFacts,
    EncoderFamily,
    Facts,
    GeneratorFamily,
    ModelFolder,
    ScorerFamily,
    family_of,
)
from graftwork.models.weights import check_shapes, read_all_shapes

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
        folder = own_or_shipped(Path(), Path(entry["path"]).expanduser())
        return folder.resolve() if folder.is_dir() else None
    folder = snapshot_folder(*hub_source(name, entry))
    return folder if folder.is_dir() else None


def snapshot_folder(repo: str, revision: str) -> Path:
    """Returns where the hub's cache has a repository at a commit, whether or not it is there."""
    folder = hub_cache_folder() / f"models--{repo.replace('/', '--')}" / "snapshots" / revision
    # Not resolved: the files of a snapshot are links into a folder of blobs, which have no readable names.
    return folder.absolute()


def other_revisions(snapshot: Path) -> list[str]:
    """Returns the commits beside a snapshot that the cache has something of."""
    found = sorted(path.name for path in snapshot.parent.iterdir()) if snapshot.parent.is_dir() else []
    return [name for name in found if name != snapshot.name]


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
            f"set config/models.yaml: encoders.{name}.path or .repo (generators.{name} for a generator, scorers.{name} for a scorer)"
        )
    if len(revision) != 40 or any(digit not in "0123456789abcdef" for digit in revision):
        raise ValueError(
            f"revision {revision!r} of model {name!r} is not a commit hash of 40 lower-case hexadecimal "
            f"digits; set config/models.yaml: encoders.{name}.revision (generators.{name} for a generator, scorers.{name} for a scorer)"
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

    An encoder or a generator has what its family says, and a generator not the text encoder that lies beside it.

    Raises:
        ValueError: where `kind` is another one, or the family is unknown.
    """
    family = family_of(kind, entry)
    if kind == "generator":
        return family.folders
    if kind == "encoder":
        return family.folders(entry)
    patterns = ("config.json", *family.files, *WEIGHT_PATTERNS)
    return (ModelFolder("", patterns, ("config.json", *family.required), has_weights=True),)


def checkpoint_folders(
    entry: Mapping[str, Any], processor_files: Sequence[str] = (), required: Sequence[str] = ()
) -> tuple[ModelFolder, ...]:
    """Returns the folders of an encoder that is a checkpoint: weights and config, and tokenizer with image processor.

    Args:
        entry: The encoder in config/models.yaml.
        processor_files: Names of files of an image processor beside those of the tokenizer.
        required: Those of them that a complete model has.
    """
    return (
        ModelFolder(
            entry.get("subfolder") or "",
            ("config.json", *WEIGHT_PATTERNS),
            ("config.json",),
            has_weights=True,
        ),
        ModelFolder(
            entry.get("tokenizer_subfolder") or "",
            (*TOKENIZER_FILES, *processor_files),
            ("tokenizer.json", "tokenizer_config.json", *required),
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
    # In the hub's cache a file is a link, whose target may be gone.
    wanted = weight_files(folder)
    return [file for file in wanted if not file.is_file()] if wanted else [folder / "*.safetensors"]


def _shards(index: Path) -> list[Path]:
    """Returns the files that an index of weights names."""
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
        raise ValueError(f"{index} has no weight_map of names to files; copy or download the model again")
    outside = [shard for shard in shards.values() if Path(shard).name != shard]
    if outside:
        raise ValueError(f"{index}: weight_map names {shorten(outside[0])}, which is no file beside it")
    return sorted({index.parent / shard for shard in shards.values()})


def weight_files(folder: Path) -> list[Path]:
    """Returns the weight files in a folder: those of its index, or all of them."""
    indices = list(folder.glob("*.safetensors.index.json"))
    return [file for index in indices for file in _shards(index)] or sorted(folder.glob("*.safetensors"))


def _check_weights(
    family: EncoderFamily | GeneratorFamily | ScorerFamily, parts: Sequence[ModelFolder], folder: Path
) -> None:
    for part in parts:
        if part.has_weights:
            own = folder / part.folder
            shapes = read_all_shapes(weight_files(own))
            for expected in family.weight_shapes(own):
                check_shapes(shapes, expected, own / "config.json")


def encoder_folders(entry: Mapping[str, Any], folder: Path) -> tuple[Path, Path]:
    """Returns the folder of an encoder's weights and config, and that of its tokenizer."""
    return folder / (entry.get("subfolder") or ""), folder / (entry.get("tokenizer_subfolder") or "")


# What a model is


def describe_model(entry: Mapping[str, Any], kind: str, folder: Path, name: str = "NAME") -> Facts:
    """Returns the facts about a model that validation and planning need.

    Args:
        entry: The model in config/models.yaml.
        kind: "encoder", "generator" or "scorer".
        folder: Where it lies, complete.
        name: Name of the model, for messages.

    Raises:
        ValueError: where the family is unknown, the files are of another one, or weights are damaged or not those of their
            configuration.
    """
    family = family_of(kind, entry, name)
    if kind == "scorer":
        _check_class(name, family, kind, folder / "config.json", "model_type", family.model_type)
        facts = family.read_facts(folder)
    elif kind == "encoder":
        weights, tokenizer = encoder_folders(entry, folder)
        _check_class(name, family, kind, weights / "config.json", "model_type", family.model_type)
        facts = family.read_facts(weights, tokenizer)
    else:
        _check_class(
            name,
            family,
            kind,
            folder / family.transformer_folder / "config.json",
            "_class_name",
            family.transformer_class,
        )
        facts = family.read_facts(folder, entry)
    _check_weights(family, model_folders(entry, kind), folder)
    return facts


def _check_class(name: str, family: Any, kind: str, file: Path, key: str, expected: str | None) -> None:
    if expected is None:
        return
    found = read_json(file).get(key)
    if found != expected:
        raise ValueError(
            f"{kind} {name!r} has family {family.name!r}, but {file} has {key} {found!r}, not {expected!r}; set "
            f"config/models.yaml: {kind}s.{name}.family or .path"
        )


def read_encoder_facts(family: str, text_config: ConfigFile, tokenizer_folder: Path) -> EncoderFacts:
    """Returns the facts of an encoder of text.

    Args:
        family: Name of its family.
        text_config: Configuration of its language model in transformers.
        tokenizer_folder: Where tokenizer and chat template are.
    """
    tokens = added_tokens(tokenizer_folder)
    has_own_base = text_config.values.get("rope_theta") is not None
    rope = text_config if has_own_base else text_config.section("rope_parameters")
    return EncoderFacts(
        family=family,
        num_hidden_layers=text_config.whole("num_hidden_layers"),
        hidden_size=text_config.whole("hidden_size"),
        accepts_images=False,
        rope_theta=rope.number("rope_theta"),
        special_tokens=[tokens[index] for index in sorted(tokens)],
        has_chat_template=read_chat_template(tokenizer_folder) is not None,
    )


def language_model_shapes(config: ConfigFile) -> dict[str, tuple[int, ...]]:
    """Returns the weights that the configuration of a language model in transformers asks for.

    Args:
        config: Configuration of a decoder with norms of queries and keys and a gated MLP.
    """
    width, inner = config.whole("hidden_size"), config.whole("intermediate_size")
    head = config.whole("head_dim", 128)
    queries, keys = config.whole("num_attention_heads") * head, config.whole("num_key_value_heads") * head
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (config.whole("vocab_size"), width)}
    for layer in range(config.whole("num_hidden_layers")):
        own = {
            "input_layernorm": (width,),
            "post_attention_layernorm": (width,),
            "self_attn.q_proj": (queries, width),
            "self_attn.k_proj": (keys, width),
            "self_attn.v_proj": (keys, width),
            "self_attn.o_proj": (width, queries),
            "self_attn.q_norm": (head,),
            "self_attn.k_norm": (head,),
            "mlp.gate_proj": (inner, width),
            "mlp.up_proj": (inner, width),
            "mlp.down_proj": (width, inner),
        }
        shapes |= {f"layers.{layer}.{name}.weight": shape for name, shape in own.items()}
    return {**shapes, "norm.weight": (width,)}


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
            named = [item for item in template if isinstance(item, dict) and item.get("name") == "default"]
            template = next((item.get("template") for item in named), None)
        if template is not None and not isinstance(template, str):
            raise ValueError(f"{file}: chat_template is {type_name(template)}; a text is needed there")
        if template:
            return template
    return None


def added_tokens(tokenizer_folder: Path) -> dict[int, str]:
    """Returns id -> text of every added token of a tokenizer."""
    file = tokenizer_folder / "tokenizer.json"
    added = read_json(file).get("added_tokens")
    try:
        return {int(token["id"]): str(token["content"]) for token in added or ()}
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(
            f"{file}: added_tokens is no list of {{id, content}}; copy or download the model again"
        ) from error
