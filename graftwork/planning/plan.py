"""Missing conditioning and images, over all experiments of one scope."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from graftwork.core.atomic import remove_file
from graftwork.core.cells import Parameters
from graftwork.core.png import is_complete_png
from graftwork.core.records import ALWAYS
from graftwork.design.cells import CorpusRecord, Design, MapRecord, ModelRecord
from graftwork.design.settings import GenerationHardware, Hardware, Sharding
from graftwork.models.acceleration import TAKE_NO_MASK
from graftwork.models.families import generator_family
from graftwork.planning.inputs import InputsPlan, WantedInputs, maps_of, plan_inputs, statistics_of
from graftwork.planning.keys import Keys, NeededInput, no_captions
from graftwork.planning.shards import (
    ConditioningOfImages,
    ConditioningShard,
    ImageItem,
    ImageShard,
    ModelToLoad,
    split_evenly,
    write_shard,
)
from graftwork.store.captions import read_caption
from graftwork.store.layout import Store
from graftwork.store.recipes import read_recipes
from graftwork.store.records import ConditioningReport, ImageParts, Recipe

_MOST_SHARDS = 64


@dataclass(frozen=True)
class ConditioningPlan(InputsPlan):
    """Plan of a scope up to its conditioning.

    Attributes:
        conditioning: names of shards of recipes.
        missing_recipes: how many conditionings are to be built.
    """

    conditioning: tuple[str, ...]
    missing_recipes: int


@dataclass(frozen=True)
class PlanEntry:
    """Names of the conditioning and the image of a cell in the store.

    Attributes:
        recipe: key of the recipe.
        image: key of the image; None where the conditioning is not known.
        parts: what that key is the digest of.
        report: row of the recipe.
        error: why the cell has no image.
        words: of a control of the kind `words`: the prompt with the words for its reference.
    """

    recipe: str
    image: str | None = None
    parts: ImageParts | None = None
    report: ConditioningReport | None = None
    error: str | None = None
    words: str | None = None

    @property
    def conditioning(self) -> str | None:
        """Hash of the conditioning, where it is known."""
        return self.report and self.report.conditioning

    def item(self) -> ImageItem:
        """Returns the image as a shard has it."""
        return ImageItem(self.image, self.parts, self.report.tokens, self.report.negative_tokens)


@dataclass(frozen=True)
class ImagePlan:
    """Images of a scope, and the shards that make the missing ones.

    Attributes:
        shards: names of shards.
        cells: cell -> what the store calls it.
        shard_of: key of a missing image -> shard.
    """

    shards: tuple[str, ...] = field(default_factory=tuple, metadata=ALWAYS)
    cells: Mapping[str, PlanEntry] = field(default_factory=dict, metadata=ALWAYS)
    shard_of: Mapping[str, str] = field(default_factory=dict, metadata=ALWAYS)


@dataclass(frozen=True)
class MergedDesigns:
    """Contents of several designs, without repetition.

    Attributes:
        cells: cell -> resolved parameters, in order.
        models: identity -> model.
        references: SHA-256 -> path.
        corpora: digest -> corpus.
        statistics_files: SHA-256 -> path.
        maps: digest -> fitted map.
    """

    cells: Mapping[str, Parameters] = field(default_factory=dict)
    models: Mapping[str, ModelRecord] = field(default_factory=dict)
    references: Mapping[str, str] = field(default_factory=dict)
    corpora: Mapping[str, CorpusRecord] = field(default_factory=dict)
    statistics_files: Mapping[str, str] = field(default_factory=dict)
    maps: Mapping[str, MapRecord] = field(default_factory=dict)

    @classmethod
    def of(cls, designs: Iterable[Design]) -> "MergedDesigns":
        """Returns what these designs have."""
        merged = cls()
        for design in designs:
            merged.cells.update((cell.cell, cell.parameters) for cell in design.cells)
            for name in ("models", "references", "corpora", "statistics_files", "maps"):
                getattr(merged, name).update(getattr(design, name))
        return merged

    def keys(self, hardware: Hardware, store: Store | None = None) -> Keys:
        """Returns the keys of the cells under hardware settings.

        Args:
            hardware: of config.yaml.
            store: where captions are; without it none is known.
        """
        read = partial(read_caption, store) if store is not None else no_captions
        return Keys(self.models, hardware, self.corpora, read, self.maps)

    def model(self, identity: str) -> ModelToLoad:
        """Returns a model as jobs load it."""
        return ModelToLoad(self.models[identity].name, self.models[identity].entry)


def plan_conditioning(
    designs: Sequence[Design], hardware: Hardware, sharding: Sharding, store: Store, digest: str = ""
) -> ConditioningPlan:
    """Plans extraction, statistics and conditioning, and freezes the shards.

    Args:
        designs: designs of the scope.
        hardware: of config.yaml.
        sharding: of config.yaml.
        store: where everything is kept.
        digest: stands for what the plan is made for.
    """
    merged = MergedDesigns.of(designs)
    keys = merged.keys(hardware, store)
    wanted = WantedInputs(statistics_of(merged.cells.values(), keys), maps_of(merged.cells.values(), keys))
    wanted.add(states_of_cells(merged.cells.values(), keys))
    inputs = plan_inputs(wanted, merged.models, merged.references, hardware, sharding, store)
    recipes = _missing_recipes(merged, keys, store)
    groups = [[key] for key in sorted(recipes, key=lambda key: (recipes[key].text.key, key))]
    shards = [
        write_shard(
            store.shards,
            shard,
            ConditioningShard(
                recipes={key: recipes[key] for key in shard},
                generators={
                    identity: merged.model(identity)
                    for identity in sorted({recipes[key].caption_norm for key in shard})
                },
                statistics_files=merged.statistics_files,
            ),
        )
        for shard in split_evenly(groups, _MOST_SHARDS, sharding.min_recipes_per_shard)
    ]
    return ConditioningPlan(
        **vars(replace(inputs, digest=digest)),
        conditioning=tuple(sorted(shards)),
        missing_recipes=len(recipes),
    )


def states_of_cells(cells: Iterable[Parameters], keys: Keys) -> Iterator[NeededInput]:
    """Yields the inputs whose hidden states cells are conditioned on."""
    for cell in cells:
        # Where a caption could not be written, nothing more can be made; `resolve_images` says why.
        if not keys.unknown_captions(cell):
            yield from keys.all_states(cell)


def inputs_of_cells(merged: MergedDesigns, keys: Keys) -> Iterator[NeededInput]:
    """Yields every input that is needed for cells, those of statistics and fitted maps included."""
    cells = merged.cells.values()
    for found in (statistics_of(cells, keys), maps_of(cells, keys)):
        for one in found.values():
            yield from one.inputs
    yield from states_of_cells(cells, keys)


def _missing_recipes(merged: MergedDesigns, keys: Keys, store: Store) -> dict[str, Recipe]:
    """Returns key -> recipe of those of which neither the conditioning nor the image is there."""
    rows = read_recipes(store.recipes)
    recipes: dict[str, Recipe] = {}
    for cell in merged.cells.values():
        if keys.unknown_captions(cell):
            continue
        recipe = keys.recipe(cell)
        row = rows.get(recipe.key)
        if row is not None and (
            store.conditioning(row.conditioning).is_file()
            or is_complete_png(store.image(keys.image(cell, row.conditioning).key))
        ):
            continue
        recipes[recipe.key] = recipe
    return recipes


def resolve_images(
    designs: Sequence[Design], hardware: Hardware, store: Store, failures: Mapping[str, str] | None = None
) -> dict[str, PlanEntry]:
    """Returns for each cell what the store calls its conditioning and image.

    Args:
        designs: designs of the scope.
        hardware: of config.yaml.
        store: where the table of recipes is.
        failures: key of a recipe or a caption -> why it could not be made.
    """
    merged = MergedDesigns.of(designs)
    keys, rows = merged.keys(hardware, store), read_recipes(store.recipes)
    return {name: _resolve_image(cell, keys, rows, failures or {}) for name, cell in merged.cells.items()}


def _resolve_image(
    cell: Parameters, keys: Keys, rows: Mapping[str, ConditioningReport], failures: Mapping[str, str]
) -> PlanEntry:
    if unknown := keys.unknown_captions(cell):
        failed = next((failures[key] for key in unknown if key in failures), None)
        # What stands for a recipe that is not known yet: no row of the table has its name.
        return PlanEntry(unknown[0], error=failed and f"its reference was not put into words: {failed}")
    recipe = keys.recipe_key(cell)
    prompt = keys.prompt(cell)
    words = prompt if prompt != cell["prompt"] else None
    row = rows.get(recipe)
    if recipe in failures:
        return PlanEntry(recipe, error=failures[recipe], words=words)
    if row is None:
        return PlanEntry(recipe, words=words)
    parts = keys.image(cell, row.conditioning)
    return PlanEntry(recipe, parts.key, parts, row, words=words)


def plan_images(
    designs: Sequence[Design],
    hardware: Hardware,
    sharding: Sharding,
    store: Store,
    failures: Mapping[str, str],
    keep_conditioning: bool = False,
) -> ImagePlan:
    """Plans generation, and freezes the shards.

    Args:
        designs: designs of the scope.
        hardware: of config.yaml.
        sharding: of config.yaml.
        store: where everything is kept.
        failures: key of a recipe or a caption -> why it could not be made.
        keep_conditioning: whether conditioning stays when its images exist.
    """
    merged = MergedDesigns.of(designs)
    keys = merged.keys(hardware, store)
    resolved = {
        name: replace(entry, error=_why_not(entry, merged, hardware.generation))
        for name, entry in resolve_images(designs, hardware, store, failures).items()
    }
    missing: dict[str, PlanEntry] = {}
    cell_of: dict[str, str] = {}
    for name, entry in resolved.items():
        if entry.error is None and not is_complete_png(store.image(entry.image)):
            missing.setdefault(entry.image, entry)
            cell_of.setdefault(entry.image, name)
    shards, shard_of = [], {}
    for (generator, _), groups in sorted(_batches_of_generators(missing, merged).items()):
        for images in split_evenly(groups, hardware.gpus, sharding.min_images_per_shard):
            here = set(images)
            own = {missing[image].conditioning for image in images}
            elsewhere = {entry.conditioning for image, entry in missing.items() if image not in here}
            content = ImageShard(
                generator=merged.model(generator),
                hardware=hardware.generation.model_dump(),
                images=tuple(missing[image].item() for image in images),
                init_images=paths_of_init_images((missing[image] for image in images), merged.references),
                references=paths_of_references((missing[image] for image in images), merged.references),
                drop=() if keep_conditioning else tuple(sorted(own - elsewhere)),
            )
            shards.append(write_shard(store.shards, images, content))
            recipes = {missing[image].recipe: keys.recipe(merged.cells[cell_of[image]]) for image in images}
            write_shard(store.recipes_of_shards, images, _conditioning_of(content, missing, recipes, merged))
            shard_of |= dict.fromkeys(images, shards[-1])
    return ImagePlan(tuple(sorted(shards)), resolved, shard_of)


def _conditioning_of(
    shard: ImageShard, missing: Mapping[str, PlanEntry], recipes: Mapping[str, Recipe], merged: MergedDesigns
) -> ConditioningOfImages:
    """Returns how the conditioning of a shard is built: another run on the same store may drop it before it is read."""
    generators = sorted({recipe.caption_norm for recipe in recipes.values()})
    return ConditioningOfImages(
        {missing[item.key].conditioning: missing[item.key].recipe for item in shard.images},
        ConditioningShard(
            recipes, {name: merged.model(name) for name in generators}, merged.statistics_files
        ),
    )


def _batches_of_generators(
    missing: Mapping[str, PlanEntry], merged: MergedDesigns
) -> dict[tuple[str, bool], list[list[str]]]:
    """Returns (generator, whether it is shown references) -> groups of images that share batches."""
    groups: dict[tuple[int, int, str], list[str]] = defaultdict(list)
    for image, entry in missing.items():
        family = merged.models[entry.parts.generator].facts.family
        group = entry.item().batch_group(generator_family(family).captions.padded_length)
        groups[group].append(image)
    by_generator: dict[tuple[str, bool], list[list[str]]] = defaultdict(list)
    for _, images in sorted(groups.items()):
        # Images of one conditioning side by side: it is read once, and can be dropped when they are done.
        images.sort(key=lambda image: (missing[image].conditioning, image))
        by_generator[loaded_for(missing[images[0]])].append(images)
    return by_generator


def _why_not(entry: PlanEntry, merged: MergedDesigns, generation: GenerationHardware) -> str | None:
    """Says why a cell cannot be made, or returns None."""
    if entry.report is None:
        return entry.error or "its conditioning was not built"
    facts = merged.models[entry.parts.generator].facts
    limit = facts.max_caption_tokens
    tokens, negative = entry.report.tokens, entry.report.negative_tokens
    if tokens > limit:
        return (
            f"its conditioning has {tokens} tokens; the generator takes at most {limit}: use another length_matching or "
            "token_mode, or a smaller reference"
        )
    if negative is None:
        return None
    if negative > limit:
        return f"its negative prompt has {negative} tokens; the generator takes at most {limit}: shorten it"
    backend = generation.attention_backend
    padded_length = generator_family(facts.family).captions.padded_length
    if backend in TAKE_NO_MASK and padded_length(negative) != padded_length(tokens):
        return (
            f"its conditioning has {tokens} tokens and its negative prompt {negative}, which are padded to "
            f"{padded_length(tokens)} and {padded_length(negative)}; attention backend {backend!r} takes only equal ones: "
            "use a negative_prompt of another length, or set config/config.yaml: "
            "hardware.generation.attention_backend to native"
        )
    return None


def paths_of_init_images(entries: Iterable[PlanEntry], references: Mapping[str, str]) -> dict[str, str]:
    """Returns SHA-256 -> path of the images that others start from.

    Args:
        entries: images that are made.
        references: SHA-256 -> path.
    """
    wanted = {entry.parts.init_image for entry in entries} - {None}
    return {sha256: references[sha256] for sha256 in sorted(wanted)}


def paths_of_references(entries: Iterable[PlanEntry], references: Mapping[str, str]) -> dict[str, str]:
    """Returns SHA-256 -> path of the images that generators are shown; see `paths_of_init_images`."""
    wanted = {sha256 for entry in entries for sha256 in entry.parts.references}
    return {sha256: references[sha256] for sha256 in sorted(wanted)}


def loaded_for(entry: PlanEntry) -> tuple[str, bool]:
    """Returns what images of one job share: the identity of their generator, and whether it is shown references."""
    return entry.parts.generator, bool(entry.parts.references)


def drop_conditioning(plan: ImagePlan, store: Store) -> None:
    """Removes conditioning whose images all exist: a shard that was killed did not come to that."""
    needed = {
        entry.conditioning
        for entry in plan.cells.values()
        if entry.error is not None or entry.image in plan.shard_of
    }
    for hash_ in {entry.conditioning for entry in plan.cells.values()} - needed - {None}:
        remove_file(store.conditioning(hash_))


@dataclass(frozen=True)
class Missing:
    """Numbers of files that a run would make.

    Attributes:
        cells: cells of the scope.
        done: distinct images in the store.
        known: images that are known to be missing.
        unknown: at most as many images of conditioning that is not recorded.
        recipes: conditionings to build.
        work: pixels x steps of what is to be made.
    """

    cells: int
    done: int
    known: int
    unknown: int
    recipes: int
    work: int


def count_missing(
    designs: Sequence[Design], hardware: Hardware, resolved: Mapping[str, PlanEntry], store: Store
) -> Missing:
    """Counts what a run would make, without reading hidden states or freezing anything.

    Args:
        designs: designs of the scope.
        hardware: of config.yaml.
        resolved: as `resolve_images` returns it.
        store: where images are.
    """
    merged = MergedDesigns.of(designs)
    keys = merged.keys(hardware, store)
    known: dict[str, int] = {}
    unknown: dict[tuple[str, int, int], int] = {}
    done, recipes = set(), set()
    for name, entry in resolved.items():
        if entry.image is None:
            recipes.add(entry.recipe)
            # As many images as there would be if every recipe gave bytes of its own.
            apart, work = keys.image_apart(merged.cells[name])
            unknown[entry.recipe, apart, merged.cells[name]["seed"]] = work
        elif is_complete_png(store.image(entry.image)):
            done.add(entry.image)
        else:
            known[entry.image] = entry.parts.work
    return Missing(
        cells=len(merged.cells),
        done=len(done),
        known=len(known),
        unknown=len(unknown),
        recipes=len(recipes),
        work=sum(known.values()) + sum(unknown.values()),
    )
