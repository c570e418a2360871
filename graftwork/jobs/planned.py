"""Comparison of a job's code, models and files with those that its shard was planned for.

A job that finds a difference ends and stores nothing. Hours may lie between planning and a job. What is made in
between from other code, weights or images would be stored under the planned name, and stay there when the edit is
undone. A job compares when it begins and before it stores anything:

    code     the digest of the code as it is on disk; a module that was written while the job ran and imported after
             the job began counts as changed, for which of its texts was imported is not known
    models   the fingerprint of a local folder; for every model, that no file of it was written while the job runs. Where a
             result is read from some of them alone (`Encoder.files_of`), these are compared before it is stored
    shard    that every key is the digest of what it stands for

Files that are read whole (references, images to start from, statistics of users) are compared where they are read.
"""

import contextlib
import hashlib
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from graftwork.core.code_digest import changed_modules, file_signature, forget_code
from graftwork.core.fact_cache import FactCache
from graftwork.core.records import record_digest
from graftwork.models.catalog import MODEL_FILES, identity_of
from graftwork.models.description import locate_model, model_files
from graftwork.models.families import generator_family
from graftwork.models.images import is_neutral_image
from graftwork.planning.code import (
    conditioning_code,
    extraction_code,
    map_code,
    sampling_code,
    sigmas_code,
    statistics_code,
)
from graftwork.planning.shards import (
    ConditioningShard,
    EncoderInputs,
    ImageShard,
    MapShard,
    ModelToLoad,
    ScorerComparisons,
    StatisticsShard,
)
from graftwork.scores.questions import scorer_code
from graftwork.store.layout import Store
from graftwork.transforms.registry import transform

OUTSIDE_DIGESTS = "compares, and makes nothing"

_NEXT = "nothing of it was stored, and the next run plans with what is there then"


class ChangedSincePlanning(RuntimeError):
    """Something is not what the work was planned for."""


@contextlib.contextmanager
def ending_in_words(log: logging.Logger) -> Iterator[None]:
    """Ends the job with the message alone where something has changed since it was planned."""
    try:
        yield
    except ChangedSincePlanning as error:
        log.error(str(error))
        sys.exit(f"graftwork: {error}")


@dataclass(frozen=True)
class UsedCode:
    """Code that a job runs.

    Attributes:
        what: what it does, in messages.
        planned: digest that the plan named.
        present: returns the digest of the code on disk.
    """

    what: str
    planned: str
    present: Callable[[], str]


@dataclass(frozen=True)
class UsedModel:
    """A model that a job loads.

    Attributes:
        kind: "encoder", "generator" or "scorer".
        model: name and entry in config/models.yaml.
        planned: identity that the plan named.
    """

    kind: str
    model: ModelToLoad
    planned: str


class Planned:
    """Compares what a job uses with what was planned."""

    def __init__(self, store: Store, code: Iterable[UsedCode], models: Iterable[UsedModel] = ()):
        """Says what is used; nothing is compared yet.

        Args:
            store: store of the job, which remembers fingerprints of models.
            code: code that the job runs.
            models: models that the job loads.
        """
        self._code, self._models = list(code), list(models)
        self._facts = store.root / "facts" / MODEL_FILES
        self._lock = threading.Lock()
        self._files: dict[Path, tuple[int, ...] | None] | None = None
        self._imported: set[str] = set()

    def require(self, read: Iterable[Path] | None = None) -> None:
        """Compares everything the first time, and afterwards what was written since.

        Args:
            read: the files of the models that are compared afterwards, where a result was read from these alone: a folder of
                thousands need not be looked through for each of them. None for all files of the models.

        Raises:
            ChangedSincePlanning: naming what is another one now.
        """
        with self._lock:
            if self._files is None:
                self._begin()
            else:
                self._go_on(self._files if read is None else read)

    def _begin(self) -> None:
        self._imported = set(sys.modules)
        if changed_modules():
            forget_code()
        self._require_code("")
        # Before they are fingerprinted: what is written meanwhile is seen the next time.
        files = {file: file_signature(file) for used in self._models for file in _files_of(used)}
        facts = FactCache(self._facts)
        for used in self._models:
            _require_model(used, facts)
        facts.save()
        self._files = files

    def _go_on(self, read: Iterable[Path]) -> None:
        if changed := changed_modules():
            names = ", ".join(changed)
            if late := [name for name in changed if name in sys.modules and name not in self._imported]:
                raise ChangedSincePlanning(
                    f"{', '.join(late)} was written and imported while this job ran; {_NEXT}"
                )
            forget_code()
            self._require_code(f" (written since the job began: {names})")
        for file in read:
            # One that was not there is another one too.
            if file_signature(file) != self._files.get(file):
                raise ChangedSincePlanning(f"{file} was written or replaced while this job ran; {_NEXT}")

    def _require_code(self, seen: str) -> None:
        for used in self._code:
            if _present(used.present) != used.planned:
                raise ChangedSincePlanning(
                    f"the code of {used.what} is another one now than when this was planned{seen}; {_NEXT}"
                )


def _present(digest: Callable[[], str]) -> str:
    """Returns the digest of the code on disk; where it cannot be followed, that is what it has become."""
    try:
        return digest()
    except (ValueError, SyntaxError, OSError) as error:
        return f"unreadable: {error}"


def _files_of(used: UsedModel) -> list[Path]:
    folder = locate_model(used.model.name, used.model.entry)
    return (
        [] if folder is None else [folder / file for file in model_files(used.model.entry, used.kind, folder)]
    )


def _require_model(used: UsedModel, facts: FactCache) -> None:
    name, entry = used.model.name, used.model.entry
    folder = locate_model(name, entry)
    if folder is None:
        return  # Loading it says what is missing, or downloads it.
    if identity_of(used.kind, name, entry, folder, facts) != used.planned:
        raise ChangedSincePlanning(
            f"{used.kind} {name!r} in {folder} is another one now than when this was planned; {_NEXT}"
        )


def extraction_as_planned(part: EncoderInputs, store: Store) -> Planned:
    """Returns what the hidden states of one encoder of a shard were planned with."""
    _require_keys((item.key, item.input) for item in part.inputs)
    family = part.encoder.entry["family"]
    return Planned(
        store,
        [
            UsedCode(f"hidden states of family {family}", code, lambda: extraction_code(family))
            for code in {item.input.code for item in part.inputs}
        ],
        [UsedModel("encoder", part.encoder, identity) for identity in {i.input.encoder for i in part.inputs}],
    )


def statistics_as_planned(shard: StatisticsShard, store: Store) -> Planned:
    """Returns what the statistics of a shard were planned with."""
    _require_keys((item.key, item.parts) for item in shard.statistics)
    codes = {item.parts.code for item in shard.statistics}
    return Planned(store, [UsedCode("statistics of a corpus", code, statistics_code) for code in codes])


def maps_as_planned(shard: MapShard, store: Store) -> Planned:
    """Returns what the maps of a shard were planned with."""
    _require_keys((item.key, item.parts) for item in shard.maps)
    used = sorted({(item.parts.method, item.parts.code) for item in shard.maps})
    codes = [UsedCode(f"maps by {name!r}", code, lambda name=name: map_code(name)) for name, code in used]
    models = [UsedModel("generator", model, identity) for identity, model in shard.generators.items()]
    return Planned(store, codes, models)


def conditioning_as_planned(shard: ConditioningShard, store: Store) -> Planned:
    """Returns what the conditioning of a shard was planned with."""
    recipes = shard.recipes.values()
    _require_keys(shard.recipes.items())
    used = {UsedCode("conditioning", recipe.code, conditioning_code) for recipe in recipes}
    stages = {
        (stage, choice.name, choice.code) for recipe in recipes for stage, choice in recipe.stages.items()
    }
    for stage, name, code in sorted(stages):
        used.add(
            UsedCode(f"{stage} {name!r}", code, lambda stage=stage, name=name: transform(stage, name).digest)
        )
    schedules = {(one.family, one.code) for recipe in recipes if (one := recipe.alpha_over_sigma)}
    for family, code in sorted(schedules):
        used.add(UsedCode(f"sigmas of family {family}", code, lambda family=family: sigmas_code(family)))
    models = [UsedModel("generator", model, identity) for identity, model in shard.generators.items()]
    return Planned(store, used, models)


def images_as_planned(shard: ImageShard, store: Store) -> Planned:
    """Returns what the images of a shard were planned with."""
    _require_keys((item.key, item.parts) for item in shard.images)
    family = generator_family(shard.generator.entry["family"]).name
    codes = {
        (item.parts.first_step > 0, bool(item.parts.references), item.parts.code) for item in shard.images
    }
    return Planned(
        store,
        [
            UsedCode(
                f"sampling of family {family}",
                code,
                lambda from_image=from_image, shown=shown: sampling_code(family, from_image, shown),
            )
            for from_image, shown, code in sorted(codes)
        ],
        [
            UsedModel("generator", shard.generator, identity)
            for identity in {item.parts.generator for item in shard.images}
        ],
    )


def scores_as_planned(part: ScorerComparisons, store: Store) -> Planned:
    """Returns what the comparisons by one scorer of a shard were planned with."""
    _require_keys((item.key, item.comparison) for item in part.comparisons)
    family = part.scorer.entry["family"]
    return Planned(
        store,
        [
            UsedCode(f"scorers of family {family}", code, lambda: scorer_code(family))
            for code in {item.comparison.code for item in part.comparisons}
        ],
        [
            UsedModel("scorer", part.scorer, identity)
            for identity in {item.comparison.scorer for item in part.comparisons}
        ],
    )


def _require_keys(items: Iterable[tuple[str, object]]) -> None:
    for key, record in items:
        if record_digest(record) != key:
            raise ChangedSincePlanning(
                f"the frozen shard says other things of {key} than its name does; {_NEXT}"
            )


def require_reference(path: str | None, sha256: str | None) -> None:
    """Compares an image that is read with the planned one.

    Args:
        path: where it is, or the name of one that shows nothing.
        sha256: of the planned file, or that name.

    Raises:
        ChangedSincePlanning: where the file is another one now.
    """
    if path is None or is_neutral_image(sha256):
        return
    try:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ChangedSincePlanning(f"{path} cannot be read any more ({error}); {_NEXT}") from error
    if found != sha256:
        raise ChangedSincePlanning(f"{path} has changed since this run was planned; {_NEXT}")


def require_inputs(what: str, planned: str, present: Callable[[], str]) -> None:
    """Compares what a plan is made from, when the plan is made.

    Args:
        what: name of the scope, in the message.
        planned: digest that the run named when it started.
        present: returns the digest of what is there now.

    Raises:
        ChangedSincePlanning: where it is another one now.
    """
    if _present(present) != planned:
        raise ChangedSincePlanning(
            f"{what}: experiments, models, settings or code changed while the run was starting; start it again"
        )


def require_code(what: str, planned: str, present: Callable[[], str]) -> None:
    """Compares the code of what is no artefact of the store: tables, plots and pages.

    Args:
        what: what the code makes, in the message.
        planned: digest that the run named when it started.
        present: returns the digest of the code on disk.

    Raises:
        ChangedSincePlanning: where the code is another one now.
    """
    if changed_modules():
        forget_code()
    if _present(present) != planned:
        raise ChangedSincePlanning(
            f"the code of {what} is another one now than when this run started; start it again"
        )
