"""Missing hidden states, statistics of corpora and fitted maps, for every kind of scope."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graftwork.core.cells import Parameters
from graftwork.core.errors import DesignError
from graftwork.core.fact_cache import FactCache, stat_signature
from graftwork.design.cells import ModelRecord
from graftwork.design.settings import Hardware, Sharding
from graftwork.models.description import encoder_folders, locate_model
from graftwork.models.families import encoder_family
from graftwork.models.images import is_neutral_image
from graftwork.models.prompts import AskedInput
from graftwork.planning.keys import Keys, NeededInput, NeededMap, NeededStatistics, layer_cells
from graftwork.planning.shards import (
    EncoderInputs,
    ExtractionShard,
    InputToExtract,
    MapShard,
    MapToFit,
    ModelToLoad,
    StatisticsShard,
    StatisticsToMeasure,
    share_jobs,
    split_evenly,
    write_shard,
)
from graftwork.store.layout import Store
from graftwork.store.records import EncoderInput
from graftwork.transforms.registry import STAGES

# Statistics of one layer take seconds: fewer are not worth another job.
_STATISTICS_PER_SHARD = 4
_MOST_SHARDS = 64


@dataclass(frozen=True, kw_only=True)
class InputsPlan:
    """Hidden states and statistics of a scope: what it needs, and the shards that make what is missing.

    Attributes:
        digest: stands for what the plan was made for.
        extraction: names of shards of hidden states.
        statistics: names of shards of statistics.
        maps: names of shards of fitted maps.
        hidden_states: key -> layers that the scope needs.
        statistics_keys: keys of statistics that the scope needs.
        map_keys: keys of fitted maps that the scope needs.
        missing_hidden_states: how many layers are to be extracted.
        missing_statistics: how many files of statistics are to be measured.
        missing_maps: how many maps are to be fitted.
    """

    digest: str
    extraction: tuple[str, ...]
    statistics: tuple[str, ...]
    maps: tuple[str, ...]
    hidden_states: Mapping[str, tuple[int, ...]]
    statistics_keys: tuple[str, ...]
    map_keys: tuple[str, ...]
    missing_hidden_states: int
    missing_statistics: int
    missing_maps: int


class WantedInputs:
    """Inputs that a scope needs, collected.

    Attributes:
        layers: key -> layers.
        inputs: key -> what it is the digest of.
    """

    def __init__(
        self, statistics: Mapping[str, NeededStatistics], maps: Mapping[str, NeededMap] | None = None
    ):
        """Takes the inputs of statistics, key -> statistics, and of fitted maps, key -> map."""
        self.layers: dict[str, set[int]] = defaultdict(set)
        self.inputs: dict[str, EncoderInput] = {}
        self.statistics, self.maps = statistics, maps or {}
        for found in (*statistics.values(), *self.maps.values()):
            self.add(found.inputs)

    def add(self, needs: Iterable[NeededInput]) -> None:
        """Adds inputs of cells."""
        for need in needs:
            self.layers[need.key].add(need.layer)
            self.inputs[need.key] = need.input


def plan_inputs(
    wanted: WantedInputs,
    models: Mapping[str, ModelRecord],
    references: Mapping[str, str],
    hardware: Hardware,
    sharding: Sharding,
    store: Store,
) -> InputsPlan:
    """Plans the extraction, measuring and fitting of what the store lacks, and freezes the shards.

    Args:
        wanted: what the scope needs.
        models: identity -> model.
        references: SHA-256 -> path.
        hardware: of config.yaml.
        sharding: of config.yaml.
        store: where hidden states and statistics are.

    Returns:
        The plan without its digest, which is that of the scope.
    """
    missing = missing_hidden_states(wanted, store)
    shards = [
        write_shard(
            store.shards,
            [f"{item.key}:{layer}" for item in shard.inputs for layer in item.layers],
            shard,
        )
        for shard in extraction_shards(wanted, missing, models, references, hardware, sharding)
    ]
    missing_keys = missing_statistics(wanted.statistics, store)
    maps = missing_maps(wanted.maps, store)
    return InputsPlan(
        digest="",
        extraction=tuple(sorted(shards)),
        statistics=tuple(sorted(_write_statistics(wanted.statistics, missing_keys, store))),
        maps=tuple(sorted(_write_maps(wanted.maps, maps, models, store))),
        hidden_states={key: tuple(sorted(layers)) for key, layers in sorted(wanted.layers.items())},
        statistics_keys=tuple(sorted(wanted.statistics)),
        map_keys=tuple(sorted(wanted.maps)),
        missing_hidden_states=sum(len(layers) for layers in missing.values()),
        missing_statistics=len(missing_keys),
        missing_maps=len(maps),
    )


def require_states(
    models: Mapping[str, ModelRecord], needs: Callable[[], Iterable[NeededInput]], file: str
) -> None:
    """Refuses inputs whose states are missing from the files that stand for an encoder.

    Args:
        models: identity -> model.
        needs: what is needed of all encoders; called only where one of them is made of files.
        file: path of the models file, for messages.

    Raises:
        DesignError: naming encoder and file, and what there is.
    """
    folders = {}
    for identity, model in models.items():
        if model.kind == "encoder" and encoder_family(model.facts.family).lacks is not None:
            folders[identity] = locate_model(model.name, model.entry)
    # A folder may have thousands of files: it is listed once.
    lacking: dict[str, Callable[[AskedInput, int], str | None]] = {}
    for need in needs() if folders else ():
        identity = need.input.encoder
        folder = folders.get(identity)
        if folder is None:  # A model; or files that are gone, whose states the store may have.
            continue
        model = models[identity]
        if identity not in lacking:
            own, _ = encoder_folders(model.entry, folder)
            lacking[identity] = encoder_family(model.facts.family).lacks(own)
        problem = lacking[identity](need.input.asked, need.layer)
        if problem is not None:
            raise DesignError(
                f"{file}: encoders.{model.name}: {problem.replace(str(folder), shown_path(model.entry, folder))}"
            )


def shown_path(entry: Mapping[str, Any], folder: Path) -> str:
    """Returns a model's folder as the models file has it, or where the cache has it."""
    return str(entry.get("path") or folder)


def missing_hidden_states(wanted: WantedInputs, store: Store) -> dict[str, tuple[int, ...]]:
    """Returns key -> wanted layers that cannot be read back, for the keys that lack any.

    A file whose size and time are those of its last full reading is not read again.
    """
    verified = FactCache(store.verified)
    present = {key: _checked(store.hidden_states(key), verified, _read_layers) for key in wanted.layers}
    verified.save()
    missing = {key: layers - set(present[key] or ()) for key, layers in wanted.layers.items()}
    return {key: tuple(sorted(layers)) for key, layers in missing.items() if layers}


def missing_statistics(wanted: Mapping[str, NeededStatistics], store: Store) -> list[str]:
    """Returns the keys of wanted statistics that cannot be read back."""
    verified = FactCache(store.verified_statistics)
    missing = [
        key for key in sorted(wanted) if not _checked(store.statistics(key), verified, _read_statistics)
    ]
    verified.save()
    return missing


def missing_maps(wanted: Mapping[str, NeededMap], store: Store) -> list[str]:
    """Returns the keys of wanted maps that cannot be read back."""
    verified = FactCache(store.verified_maps)
    missing = [key for key in sorted(wanted) if not _checked(store.map(key), verified, _read_map)]
    verified.save()
    return missing


def _read_map(path: Path) -> bool:
    from graftwork.store.maps import is_intact_map

    return is_intact_map(path)


def _read_layers(path: Path) -> list[int]:
    from graftwork.store.hidden_states import intact_layers

    return intact_layers(path)


def _read_statistics(path: Path) -> bool:
    from graftwork.store.statistics import is_intact

    return is_intact(path)


def _checked(path: Path, verified: FactCache, check: Callable[[Path], Any]) -> Any:
    """Returns what a full reading of a file found, now or when it last changed; None where there is no file."""
    found = verified.known(path)
    if found is None and path.exists():
        signature = stat_signature(path)
        found = check(path)
        verified.put(path, found, signature)
    return found


def extraction_shards(
    wanted: WantedInputs,
    missing: Mapping[str, tuple[int, ...]],
    models: Mapping[str, ModelRecord],
    references: Mapping[str, str],
    hardware: Hardware,
    sharding: Sharding,
) -> list[ExtractionShard]:
    """Returns the shards that extract missing layers, inputs with the same image side by side.

    A shard has one encoder; with one GPU or none there is one shard of all encoders.
    """
    # Encoder -> image -> keys.
    groups: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for key in sorted(missing):
        made = wanted.inputs[key]
        groups[made.encoder][made.reference or ""].append(key)
    parts = []
    for encoder, by_image in groups.items():
        model = ModelToLoad(models[encoder].name, models[encoder].entry)
        keys_of_images = [by_image[image] for image in sorted(by_image)]
        for keys in split_evenly(keys_of_images, hardware.gpus, sharding.min_images_per_shard):
            items = tuple(
                InputToExtract(
                    key, missing[key], path_of(wanted.inputs[key].reference, references), wanted.inputs[key]
                )
                for key in keys
            )
            parts.append(EncoderInputs(model, items))
    settings = hardware.extraction.model_dump()
    return [ExtractionShard(settings, shared) for shared in share_jobs(parts, hardware.gpus)]


def path_of(reference: str | None, references: Mapping[str, str]) -> str | None:
    """Returns where a reference image is; one that shows nothing is made by its name."""
    return reference if is_neutral_image(reference) else references.get(reference)


def statistics_of(cells: Iterable[Parameters], keys: Keys) -> dict[str, NeededStatistics]:
    """Returns key -> statistics that cells take; at alpha 0 there are none."""
    found: dict[str, NeededStatistics] = {}
    for layer in (layer for cell in cells for layer in layer_cells(cell)):
        if layer["alpha"] == 0.0:
            continue
        for stage in STAGES:
            found |= {needed.key: needed for needed in keys.stage_statistics(layer, stage).values()}
    return found


def maps_of(cells: Iterable[Parameters], keys: Keys) -> dict[str, NeededMap]:
    """Returns key -> fitted maps that cells take; at alpha 0 there are none."""
    layers = (layer for cell in cells for layer in layer_cells(cell))
    found = (keys.cell_map(layer) for layer in layers if layer["alpha"] != 0.0)
    return {needed.key: needed for needed in found if needed is not None}


def _write_maps(
    maps: Mapping[str, NeededMap], missing: Iterable[str], models: Mapping[str, ModelRecord], store: Store
) -> list[str]:
    """Freezes the shards of missing maps, those of the same pairs together, and returns their names."""
    groups: dict[Any, list[str]] = defaultdict(list)
    for key in missing:
        one = maps[key]
        parts = one.parts
        pairs = (parts.source, parts.layers, parts.target, parts.target_layer, parts.normalization)
        groups[*pairs, one.record.generator].append(key)
    names = []
    for keys in groups.values():
        metrics = {maps[key].parts.metric for key in keys} - {None}
        generators = {name: ModelToLoad(models[name].name, models[name].entry) for name in metrics}
        items = tuple(
            MapToFit(key, one.parts, one.record.corpus, one.record.encoder, one.record.text_encoder)
            for key in keys
            if (one := maps[key])
        )
        names.append(write_shard(store.shards, keys, MapShard(items, generators)))
    return names


def _write_statistics(
    statistics: Mapping[str, NeededStatistics], missing: Iterable[str], store: Store
) -> list[str]:
    """Freezes the shards of missing statistics, and returns their names."""
    by_encoder: dict[str, list[str]] = defaultdict(list)
    for key in missing:
        by_encoder[statistics[key].encoder].append(key)
    groups = [by_encoder[encoder] for encoder in sorted(by_encoder)]
    return [
        write_shard(
            store.shards,
            keys,
            StatisticsShard(
                tuple(
                    StatisticsToMeasure(key, one.parts, one.corpus, one.encoder, one.options)
                    for key in keys
                    if (one := statistics[key])
                )
            ),
        )
        for keys in split_evenly(groups, _MOST_SHARDS, _STATISTICS_PER_SHARD)
    ]


def find_damaged_inputs(plan: InputsPlan, store: Store) -> str | None:
    """Returns why what a plan needs of the store is no longer there, or None."""
    verified = FactCache(store.verified)
    hidden_states = [
        key
        for key, layers in plan.hidden_states.items()
        if not set(layers) <= set(verified.known(store.hidden_states(key)) or ())
    ]
    if hidden_states:
        return f"{len(hidden_states)} files of hidden states are missing or changed"
    measured = FactCache(store.verified_statistics)
    statistics = [key for key in plan.statistics_keys if not measured.known(store.statistics(key))]
    if statistics:
        return f"{len(statistics)} files of statistics are missing or changed"
    fitted = FactCache(store.verified_maps)
    maps = [key for key in plan.map_keys if not fitted.known(store.map(key))]
    return f"{len(maps)} fitted maps are missing or changed" if maps else None
