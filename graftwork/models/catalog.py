"""Models by name: where they are, what they are, and the identity that cells and keys carry.

A hub model is identified by its repository and commit; a local folder by the content of the files that decide its
output. Both are remembered, so that a run with nothing to do needs no model at all.
"""

import hashlib
import itertools
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from graftwork.core.errors import DesignError, require_known
from graftwork.core.fact_cache import FactCache
from graftwork.core.identity import digest
from graftwork.core.records import OtherVersion, from_json, to_json
from graftwork.models.description import (
    describe_model,
    hub_source,
    locate_model,
    missing_files,
    model_files,
    other_revisions,
    snapshot_folder,
)
from graftwork.models.families import Facts, encoder_family, family_of

# Facts about files of models: their SHA-256.
MODEL_FILES = "model_files.json"


@dataclass(frozen=True)
class Model:
    """A model as cells and jobs know it.

    Attributes:
        name: Name in the models file.
        kind: "encoder" or "generator".
        entry: Its entry in the models file, without empty keys.
        identity: Stands for its content in every key.
        facts: facts about it that need no loading.
        weights: Stands for the bytes of its weights alone, whatever lies beside them; None where they are not known
            without reading a hub model's files.
    """

    name: str
    kind: str
    entry: dict[str, Any]
    identity: str
    facts: Facts
    weights: str | None = None


class AbsentModel(DesignError):
    """A model is not on this machine, or lacks files."""


@dataclass(frozen=True)
class _Known:
    """Remembered facts about a model."""

    identity: str
    facts: Facts
    weights: str | None


class ModelCatalog:
    """Resolves the entries of the models file, each at most once."""

    def __init__(self, entries: Mapping[str, Mapping[str, Mapping[str, Any]]], file: str, cache_folder: Path):
        self.file = file
        self._entries = entries
        self._files = FactCache(cache_folder / MODEL_FILES)
        self._models = FactCache(cache_folder / "models.json")
        self._resolved: dict[tuple[str, str], Model] = {}

    def names(self, kind: str) -> list[str]:
        """Returns the names of one kind."""
        return list(self._entries[f"{kind}s"])

    def get(self, kind: str, name: str, where: str) -> Model:
        """Returns a model.

        Args:
            kind: "encoder" or "generator".
            name: Name in the models file.
            where: File and key that asked for it, for the message.

        Raises:
            DesignError: for an unknown name, and for files that are not those of the model.
        AbsentModel: for a folder that is missing or incomplete and was never seen.
        """
        require_known(name, self.names(kind), kind, where)
        if (kind, name) not in self._resolved:
            self._resolved[kind, name] = self._resolve(kind, name)
        return self._resolved[kind, name]

    def save(self) -> None:
        """Keeps what was found for the next start."""
        self._files.save()
        self._models.save()

    def _resolve(self, kind: str, name: str) -> Model:
        entry = {key: value for key, value in self._entries[f"{kind}s"][name].items() if value is not None}
        section = f"{self.file}: {kind}s.{name}"
        folder = None
        try:
            family_of(kind, entry, name)
            folder = locate_model(name, entry)
            missing = missing_files(entry, kind, folder) if folder else None
        except ValueError as error:
            text = str(error).replace(str(folder), str(entry.get("path") or folder)) if folder else str(error)
            raise DesignError(text if self.file in text else f"{section}: {text}") from error
        # Not a path that exists: the cache then keeps the last answer whatever happens to the folder.
        memory = Path(f"{kind}:{name}:{digest(entry)}")
        if missing or folder is None:
            known = self._known(memory)
            if known is not None:
                return Model(name, kind, entry, known.identity, known.facts, known.weights)
            raise AbsentModel(_absence(section, entry, folder, missing))
        try:
            facts = describe_model(entry, kind, folder, name)
        except (ValueError, OSError) as error:
            shown = str(entry.get("path") or folder)
            reason = str(error).replace(str(folder), shown)
            raise DesignError(f"{section}: {shown} cannot be used as {kind}: {reason}") from error
        identity = identity_of(kind, name, entry, folder, self._files)
        weights = self._weights(kind, entry, folder)
        found = _Known(identity, facts, weights)
        if self._known(memory) != found:
            self._models.put(memory, to_json(found), None)
        return Model(name, kind, entry, identity, facts, weights)

    def _known(self, memory: Path) -> _Known | None:
        """Returns what was last known of a model; None where that is nothing, or of another version."""
        try:
            return from_json(_Known, self._models.last_known(memory))
        except OtherVersion:
            return None

    def _weights(self, kind: str, entry: dict[str, Any], folder: Path) -> str | None:
        files = [folder / path for path in model_files(entry, kind, folder) if path.suffix == ".safetensors"]
        if entry.get("path"):
            hashes = [self._files.get(file, _sha256) for file in files]
        else:
            # The hub's cache links to files that are named by the SHA-256 of what was uploaded as large.
            hashes = [os.readlink(file).rpartition("/")[2] if file.is_symlink() else "" for file in files]
        return digest(sorted(hashes)) if all(len(name) == 64 for name in hashes) else None


def image_problem(encoder: Model, width: int, height: int) -> str | None:
    """Returns why an encoder cannot take an image of this size in pixels, or None."""
    return encoder_family(encoder.facts.family).image_problem(encoder.facts, width, height)


def image_tokens(encoder: Model, width: int, height: int) -> int:
    """Returns how many tokens an image of this size in pixels becomes; 0 where that is not known."""
    return encoder_family(encoder.facts.family).image_tokens(encoder.facts, width, height)


def identity_of(kind: str, name: str, entry: Mapping[str, Any], folder: Path, hashes: FactCache) -> str:
    """Returns what stands for a model in every key: its content in a local folder, else repository and commit.

    Args:
        kind: "encoder" or "generator".
        name: Name in the models file.
        entry: Its entry there.
        folder: Where it lies.
        hashes: SHA-256 of files.
    """
    if not entry.get("path"):
        return _hub_identity(name, entry)
    files = {path.as_posix(): hashes.get(folder / path, _sha256) for path in model_files(entry, kind, folder)}
    return f"content:{digest(files)}"


def same_weights(models: Iterable[Model], file: str) -> list[str]:
    """Returns a line for every two names in the models file that stand for the same weights.

    Nothing is wrong with that, but an experiment that compares them compares a model with itself.
    """
    named = list({(model.kind, model.name): model for model in models}.values())
    lines = []
    for one, other in itertools.combinations(named, 2):
        if one.kind != other.kind:
            continue
        pair = f"{one.kind}s {one.name!r} and {other.name!r} of {file}"
        if one.identity == other.identity:
            lines.append(
                f"{pair} are the same model; what is made with the one is what is made with the other"
            )
        elif one.weights is not None and one.weights == other.weights:
            lines.append(
                f"{pair} have the same weights; they are told apart by where they come from or by another file than "
                "weights"
            )
    return lines


def _hub_identity(name: str, entry: Mapping[str, Any]) -> str:
    repo, revision = hub_source(name, entry)
    parts = {key: entry[key] for key in ("subfolder", "tokenizer_subfolder") if entry.get(key)}
    return f"{repo}@{revision}" + (f"?{urlencode(parts)}" if parts else "")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _absence(section: str, entry: dict[str, Any], folder: Path | None, missing: list[str] | None) -> str:
    if entry.get("path"):
        if folder is not None:
            return f"{section}: {entry['path']} lacks {', '.join(missing or [])}; complete it, or change the path"
        return f"{section}.path: folder {entry['path']} does not exist; set it to a folder in `save_pretrained` form"
    repo, revision = entry["repo"], entry["revision"]
    others = other_revisions(snapshot_folder(repo, revision))
    kept = f" (it has {', '.join(others)})" if others else ""
    what = (
        f"{folder} lacks {', '.join(missing or [])}"
        if folder is not None
        else f"{repo} is not in the hub cache at commit {revision}{kept}"
    )
    return (
        f"{section}: {what}; download it once with the target `download_models`, or with\n"
        f"  hf download {repo} --revision {revision}\n"
        "or set `path` to a local copy"
    )
