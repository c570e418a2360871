"""Jobs: how work is cut into shards, what a shard has to do, and the manifest in which it says what it did.

Shards are few enough that loading a model pays, and many enough for the GPUs there are. They are frozen in files before
any job runs, so that what a job does does not depend on what exists when it starts.
"""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from graftwork.core.atomic import write_atomic
from graftwork.core.identity import digest
from graftwork.core.records import read_record, read_record_or_none, record_digest, to_json
from graftwork.models.prompts import InputOptions
from graftwork.store.records import EncoderInput, ImageParts, MapParts, Recipe, StatisticsParts
from graftwork.store.values import Comparison

T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True)
class ModelToLoad:
    """A model as jobs load it.

    Attributes:
        name: name in config/models.yaml.
        entry: entry there, whose keys are the family's.
    """

    name: str
    entry: Mapping[str, Any]


@dataclass(frozen=True)
class InputToExtract:
    """One input of an encoder.

    Attributes:
        key: name of its hidden states.
        layers: entries of `hidden_states` that the store lacks.
        path: where the image is; None without one.
        input: what the key is the digest of.
    """

    key: str
    layers: tuple[int, ...]
    path: str | None
    input: EncoderInput


@dataclass(frozen=True)
class EncoderInputs:
    """Inputs of one encoder.

    Attributes:
        encoder: what is loaded.
        inputs: inputs with the same image stand side by side.
    """

    encoder: ModelToLoad
    inputs: tuple[InputToExtract, ...]


@dataclass(frozen=True)
class ExtractionShard:
    """Inputs of encoders that one job loads one after the other.

    Attributes:
        hardware: `hardware.extraction` of config.yaml, as plain values for the family's loader.
        parts: one for each encoder; several only where one device serves all of them.
    """

    hardware: Mapping[str, Any]
    parts: tuple[EncoderInputs, ...]

    @property
    def inputs(self) -> tuple[InputToExtract, ...]:
        """Inputs of all parts."""
        return tuple(item for part in self.parts for item in part.inputs)


@dataclass(frozen=True)
class StatisticsToMeasure:
    """Statistics of one layer of an encoder over a corpus.

    Attributes:
        key: name of their file.
        parts: what the key is the digest of.
        corpus: digest of the corpus.
        encoder: identity of the encoder.
        options: what the encoder is shown besides, and how.
    """

    key: str
    parts: StatisticsParts
    corpus: str
    encoder: str
    options: InputOptions


@dataclass(frozen=True)
class StatisticsShard:
    """Statistics of corpora.

    Attributes:
        statistics: those of one encoder stand side by side.
    """

    statistics: tuple[StatisticsToMeasure, ...]


@dataclass(frozen=True)
class MapToFit:
    """A map.

    Attributes:
        key: name of its file.
        parts: what the key is the digest of.
        corpus: digest of the corpus.
        encoder: identity of the encoder that is mapped.
        text_encoder: identity of the one that it is mapped to.
    """

    key: str
    parts: MapParts
    corpus: str
    encoder: str
    text_encoder: str


@dataclass(frozen=True)
class MapShard:
    """Maps that are fitted on the same pairs.

    Attributes:
        maps: maps.
        generators: identity -> what to read the metric of.
    """

    maps: tuple[MapToFit, ...]
    generators: Mapping[str, ModelToLoad]


@dataclass(frozen=True)
class ConditioningShard:
    """Recipes.

    Attributes:
        recipes: key -> recipe.
        generators: identity -> what to read the caption norm of.
        statistics_files: SHA-256 -> path of files of statistics and vectors.
    """

    recipes: Mapping[str, Recipe]
    generators: Mapping[str, ModelToLoad]
    statistics_files: Mapping[str, str]


@dataclass(frozen=True)
class ConditioningOfImages:
    """How the conditioning of a shard of images is built, should it be gone when the job comes to it.

    Attributes:
        recipe_of: hash of the conditioning -> key of its recipe.
        recipes: those recipes, and what they are built from.
    """

    recipe_of: Mapping[str, str]
    recipes: ConditioningShard


@dataclass(frozen=True)
class ImageItem:
    """One image.

    Attributes:
        key: name of the image.
        parts: what the key is the digest of.
        tokens: length of the conditioning.
        negative_tokens: length of that of the negative prompt; None without guidance.
    """

    key: str
    parts: ImageParts
    tokens: int
    negative_tokens: int | None = None

    def batch_group(self, padded_length: Callable[[int], int]) -> tuple[int, int, str]:
        """Returns what images must share to be in one batch: padded lengths, and all that is not a row's own.

        Args:
            padded_length: tokens of a caption -> tokens once it is padded, as the generator does it.
        """
        shared = replace(self.parts, seed=0, conditioning="", init_image=self.parts.init_image and "")
        return (padded_length(self.tokens), padded_length(self.negative_tokens or 0), record_digest(shared))


@dataclass(frozen=True)
class ImageShard:
    """Images of one generator.

    Attributes:
        generator: what is loaded.
        hardware: `hardware.generation` of config.yaml, as plain values for the family's loader.
        images: images that share a batch, and those of one conditioning, stand side by side.
        init_images: SHA-256 -> path of images to start from.
        drop: hashes of conditioning that no other shard needs, removed when all images exist.
        references: SHA-256 -> path of images that the generator is shown. All images of a shard have some, or none has.
    """

    generator: ModelToLoad
    hardware: Mapping[str, Any]
    images: tuple[ImageItem, ...]
    init_images: Mapping[str, str]
    drop: tuple[str, ...]
    references: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ComparisonToMake:
    """One comparison of an image.

    Attributes:
        key: name of its value.
        comparison: what the key is the digest of.
        path: where the image is.
        other: where the other image is; None where the image is compared with a text.
    """

    key: str
    comparison: Comparison
    path: str
    other: str | None = None


@dataclass(frozen=True)
class ScorerComparisons:
    """Comparisons by one scorer.

    Attributes:
        scorer: what is loaded.
        comparisons: those of one image stand side by side.
    """

    scorer: ModelToLoad
    comparisons: tuple[ComparisonToMake, ...]


@dataclass(frozen=True)
class ScoringShard:
    """Comparisons by scorers that one job loads one after the other.

    Attributes:
        hardware: `hardware.scoring` of config.yaml, as plain values for the family's loader.
        parts: one for each scorer; several only where one device serves all of them.
    """

    hardware: Mapping[str, Any]
    parts: tuple[ScorerComparisons, ...]

    @property
    def comparisons(self) -> tuple[ComparisonToMake, ...]:
        """Comparisons of all parts."""
        return tuple(item for part in self.parts for item in part.comparisons)


@dataclass(frozen=True)
class Rate:
    """How fast a job of generation was.

    Attributes:
        work: pixels x steps.
        seconds: time they took, without loading.
    """

    work: int
    seconds: float


@dataclass(frozen=True)
class Manifest:
    """Files that a job made, and those that failed.

    Attributes:
        made: keys of what it made.
        found: keys of what another job had made before.
        failures: key -> why it could not be made.
        seconds: time of the whole job.
        packages: name -> version of what computed it.
        rate: of a job of generation.
        refused: of a job of statistics: key -> input -> why it was left out.
    """

    made: tuple[str, ...]
    found: tuple[str, ...]
    failures: Mapping[str, str]
    seconds: float
    packages: Mapping[str, str]
    rate: Rate | None = None
    refused: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """Manifests of several jobs, taken together.

    Attributes:
        images: how many they made.
        seconds: time of all jobs.
        packages: name -> version, as they are installed now.
    """

    images: int
    seconds: float
    packages: Mapping[str, str]


def image_shard_name(shard: ImageShard) -> str:
    """Returns the name that a shard of images has."""
    return shard_name(_keys_of(shard))


def shard_name(keys: Sequence[str]) -> str:
    """Returns the name of a shard with these keys."""
    return digest(sorted(keys))[:16]


def write_shard(folder: Path, keys: Sequence[str], shard: Any) -> str:
    """Freezes a shard in a file named by the digest of its keys, and returns that name."""
    name = shard_name(keys)
    write_atomic(folder / f"{name}.json", json.dumps(to_json(shard), sort_keys=True, ensure_ascii=False))
    return name


def read_shard(kind: type[S], folder: Path, name: str) -> S:
    """Returns what a job has to do.

    Args:
        kind: one of the shards above.
        folder: folder of all shards.
        name: name that `write_shard` gave it.
    """
    return read_record(kind, folder / f"{name}.json")


def is_sound(kind: type, folder: Path, name: str) -> bool:
    """Returns whether a frozen shard can be read, and has the keys that its name is the digest of.

    Args:
        kind: one of the shards above.
        folder: folder of all shards.
        name: name of the shard.
    """
    shard = read_record_or_none(kind, folder / f"{name}.json")
    return shard is not None and shard_name(_keys_of(shard)) == name


def _keys_of(shard: Any) -> list[str]:
    match shard:
        case ExtractionShard():
            # The layers are part of the name: one more layer is another job, though of the same inputs.
            return [f"{item.key}:{layer}" for item in shard.inputs for layer in item.layers]
        case StatisticsShard():
            return [item.key for item in shard.statistics]
        case MapShard():
            return [item.key for item in shard.maps]
        case ConditioningShard():
            return list(shard.recipes)
        case ImageShard():
            return [item.key for item in shard.images]
        case ScoringShard():
            return [item.key for item in shard.comparisons]
    raise TypeError(f"{type(shard).__name__} is no shard")


def share_jobs(parts: Sequence[T], gpus: int) -> list[tuple[T, ...]]:
    """Returns the parts that one job does, each of which loads a model.

    Where they would wait for one device anyway, one job imports the libraries for all of them.

    Args:
        parts: parts of all models, in order.
        gpus: jobs that run side by side.
    """
    if gpus == 1 and parts:
        return [tuple(parts)]
    return [(part,) for part in parts]


def split_evenly(groups: Sequence[Sequence[T]], most: int, fewest_items: int) -> list[list[T]]:
    """Distributes groups, each kept whole where that leaves the shards balanced, over at most `most` shards.

    Args:
        groups: items that are cheaper together (the same image, the same batch shape), in order.
        most: most shards.
        fewest_items: fewest items that are worth a shard of their own.

    Returns:
        Shards without empty ones. Order of items is kept; nothing depends on chance or on what ran before.
    """
    items = [item for group in groups for item in group]
    if not items:
        return []
    shards = max(1, min(most, len(items) // max(1, fewest_items)))
    bounds = [round(len(items) * index / shards) for index in range(shards + 1)]
    starts, at = [], 0
    for group in groups:
        starts.append(at)
        at += len(group)
    # A cut moves to the nearest start of a group if that changes the size of a shard by less than a quarter.
    slack = len(items) / shards / 4
    for index in range(1, shards):
        nearest = min(starts, key=lambda start: (abs(start - bounds[index]), start))
        if abs(nearest - bounds[index]) <= slack:
            bounds[index] = nearest
    cut = [items[a:b] for a, b in itertools.pairwise(bounds)]
    return [shard for shard in cut if shard]
