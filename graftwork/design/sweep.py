"""From an experiment file to cells: the product of its axes, resolved, checked and named."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from graftwork.core.cells import CONTROL, Axis, Cell, SharedParameters
from graftwork.core.errors import DesignError, explain, require_known
from graftwork.core.fact_cache import FactCache
from graftwork.core.inputs import Prompt, Reference, ReferenceSet
from graftwork.design.axes import (
    SETTING,
    axis_labels,
    every_value_of,
    plain_values,
    spread_range,
    validate_value,
)
from graftwork.design.baselines import Baselines
from graftwork.design.cells import Design, Grid, ModelRecord
from graftwork.design.controls import ControlCells, Member
from graftwork.design.encoding import check_encoding, check_texts, fill_in_formats, fill_in_template
from graftwork.design.fit import CellModels, check_fit
from graftwork.design.inputs import (
    distinct_names,
    find_reference,
    parts_of,
    read_prompts,
    reference_notes,
    renamed,
)
from graftwork.design.layers import fill_in_layers
from graftwork.design.maps import MapsOfCells, MapsReader
from graftwork.design.parameters import NEUTRAL, cell_id, cell_ids_beside
from graftwork.design.sampling import (
    OWN_REFERENCE,
    check_sampling,
    check_what_acts,
    fill_in_sampling,
    find_init_image,
    sampling_notes,
)
from graftwork.design.schema import CellParameters, Experiment, Range
from graftwork.design.scoring import choose_scorers
from graftwork.design.settings import Limits
from graftwork.design.statistics_of_cells import StatisticsOfCells, without_nulls
from graftwork.design.vectors import VectorsOfCells
from graftwork.models.catalog import Model, ModelCatalog, same_weights
from graftwork.models.images import GREY, grey_reference
from graftwork.scores.registry import ScoreInputs, check_scores
from graftwork.transforms.context import NEUTRAL_SOURCE
from graftwork.transforms.registry import fill_in_defaults, transform

# Parameters that come as lists in `base`, and the key there.
INPUT_AXES = {"prompt": "prompts", "reference": "references", "seed": "seeds"}

# Axes whose values change nothing else about a cell, and are checked by themselves.
_DECIDE_NOTHING_ELSE = ("prompt", "seed")


class Expander:
    """Expands experiments against one set of models, references and limits."""

    def __init__(
        self,
        root: Path,
        models: ModelCatalog,
        references: FactCache,
        limits: Limits,
        defaults: dict[str, Any],
        maps: MapsReader | None = None,
    ):
        self._root = root
        self._models = models
        self._references = references
        self._limits = limits
        self._defaults = defaults
        self._statistics = StatisticsOfCells(root, models, references)
        self._maps = MapsOfCells(maps)
        self._vectors = VectorsOfCells(root)

    def expand(self, name: str, raw: Any, file: str) -> Design:
        """Returns the design of one experiment.

        Args:
            name: Name of the experiment.
            raw: Content of its file.
            file: Path of the file, for messages.

        Raises:
            DesignError: for anything that cannot be built, before any model is loaded.
        """
        experiment = self._validate(raw, file)
        # Counted before anything is read or spread out, however long the lists are.
        self._check_size(experiment, _lengths(experiment), file)
        axes = self._axes(experiment, file)
        self._check_size(experiment, {name: len(values) for name, values in axes.items()}, file)
        _check_repeated(experiment, axes, file)
        names = self._tell_apart(axes, experiment, file)
        controls = ControlCells(experiment, file)
        grids = self._check_grids(experiment, [*axes, *([controls.axis.name] if controls.axis else [])], file)
        design = Design(
            name,
            experiment.title or name,
            experiment.question,
            [
                *(
                    Axis(axis, plain_values(values), axis_labels(axis, values))
                    for axis, values in axes.items()
                ),
                *([controls.axis] if controls.axis else []),
            ],
            [],
            [],
            {},
            grids,
            scores=list(experiment.scores),
            look_for=experiment.look_for,
        )
        constant = experiment.base.model_dump(exclude=set(INPUT_AXES.values()))
        varied = every_value_of(axes, constant)
        hosts, encoders = self._models_used(constant, varied, controls.generators, file)
        check_texts(varied, constant, hosts, encoders, experiment.allow_control_tokens, file)
        check_what_acts(varied, constant, file)
        design.notes = same_weights([*itertools.chain(*hosts), *encoders], self._models.file)
        self._choose_scores(experiment, varied, design, file)
        cells: dict[str, Cell] = {}
        baselines = Baselines(lambda values: self._resolve(dict(values), "baseline", design, file))
        others: dict[str, Cell] = {}
        resolve = self._resolved_once()
        for indices in itertools.product(*(range(len(values)) for values in axes.values())):
            chosen = {axis: axes[axis][index] for axis, index in zip(axes, indices, strict=True)}
            setting = chosen.pop(SETTING, None)
            values = {**constant, **chosen, **(setting["parameters"] if setting else {})}
            # A baseline starts from the same image as its cell, though it has no reference.
            place = "axes" if "init_image" in axes else "base"
            if setting and "init_image" in setting["parameters"]:
                place = f"settings.{setting['name']}"
            image = find_init_image(values, self._reference, f"{file}: {place}.init_image")
            values["init_image"] = renamed(image, names)
            place_of_others = tuple(
                index for axis, index in zip(axes, indices, strict=True) if axis not in _DECIDE_NOTHING_ELSE
            )
            cell = resolve(place_of_others, values, design, file)
            if setting:
                cell = replace(cell, shown={**cell.shown, SETTING: setting["name"]})
                known = cells.get(cell.cell)
                if known is not None and known.shown[SETTING] != setting["name"]:
                    raise DesignError(
                        f"{file}: settings.{setting['name']} and settings.{known.shown[SETTING]} are the same: they give "
                        "every parameter the same value; remove one of them"
                    )
            cells.setdefault(cell.cell, cell)
            if not experiment.baseline and controls.axis is None:
                design.positions.append((list(indices), cell.cell))
                continue
            members = controls.of(cell, values, baselines, design.models)
            _place(design, list(indices), members, experiment.baseline)
            others |= {member.cell.cell: member.cell for member in members[1:]}
        controls.check(list(cells.values()), design.models, file)
        texts = baselines.cells if experiment.baseline else {}
        design.cells = [
            *(cell for cell in texts.values() if cell.cell not in cells),
            *cells.values(),
            *(other for name, other in others.items() if name not in cells and name not in texts),
        ]
        design.notes += sampling_notes((cell.parameters for cell in design.cells), design.models)
        design.notes += self._statistics.notes(design)
        design.notes += self._maps.notes(design)
        design.notes += reference_notes(design.references, self._root, self._references)
        return design

    def _resolved_once(self) -> Callable[[tuple[int, ...], dict[str, Any], Design, str], Cell]:
        """Returns what resolves a cell, and for cells that differ in prompt and seed alone does so once.

        Its arguments are the place of the cell on all other axes, and those of `_resolve` but the role.
        """
        known: dict[tuple[int, ...], tuple[Cell, Callable[[str, int], str]]] = {}

        def resolve(place: tuple[int, ...], values: dict[str, Any], design: Design, file: str) -> Cell:
            if place not in known:
                cell = self._resolve(values, "cell", design, file)
                known[place] = cell, cell_ids_beside(cell.parameters)
                return cell
            (first, name_of), prompt = known[place], values["prompt"]
            own = {"prompt": prompt.text, "seed": values["seed"]}
            parameters = SharedParameters(first.parameters, own)
            shown = {
                **first.shown,
                **own,
                "prompt_name": prompt.name if prompt.name != prompt.text else None,
            }
            return Cell(name_of(prompt.text, values["seed"]), "cell", parameters, shown)

        return resolve

    def _validate(self, raw: Any, file: str) -> Experiment:
        if not isinstance(raw, dict):
            raise DesignError(f"{file} must be a mapping with the key `base`; it is {type(raw).__name__}")
        base = raw.get("base")
        if isinstance(base, dict):
            raw = {**raw, "base": {**self._defaults, **base}}
        try:
            return Experiment.model_validate(raw)
        except ValidationError as error:
            raise explain(error, file, Experiment) from error

    def _axes(self, experiment: Experiment, file: str) -> dict[str, list[Any]]:
        base = experiment.base
        axes: dict[str, list[Any]] = {
            "prompt": read_prompts(base.prompts, self._root, f"{file}: base.prompts"),
            "reference": [self._reference(item, f"{file}: base.references") for item in base.references]
            or [None],
            "seed": list(base.seeds),
        }
        if experiment.settings:
            axes[SETTING] = self._settings(experiment, file)
        known = [*INPUT_AXES, *CellParameters.model_fields]
        for name, values in experiment.axes.items():
            where = f"{file}: axes.{name}"
            if name not in known:
                require_known(name, known, "axis", f"{file}: axes")
            items = spread_range(values) if isinstance(values, Range) else values
            if name == "prompt":
                axes[name] = read_prompts(items, self._root, where)
            elif name == "reference":
                axes[name] = [self._reference(item, where) for item in items]
            else:
                axes[name] = [validate_value(name, item, where) for item in items]
        return axes

    def _settings(self, experiment: Experiment, file: str) -> list[dict[str, Any]]:
        settings = []
        for name, parameters in experiment.settings.items():
            where = f"{file}: settings.{name}"
            for parameter in parameters:
                require_known(parameter, CellParameters.model_fields, "parameter", where)
                if parameter in experiment.axes:
                    raise DesignError(
                        f"{where}: {parameter} is an axis too, so it would have two values; give it in one of the two"
                    )
            values = {key: validate_value(key, value, f"{where}.{key}") for key, value in parameters.items()}
            settings.append({"name": name, "parameters": values})
        return settings

    def _reference(self, item: Any, where: str) -> Reference | ReferenceSet | None:
        if item is None:
            return None
        if isinstance(item, list) and len(item) > 1:
            parts = [self._reference(part, where) for part in item]
            if not all(isinstance(part, Reference) for part in parts):
                raise DesignError(
                    f"{where}: {item!r} is no set of references; allowed: a list of names or paths"
                )
            return ReferenceSet(" + ".join(part.name for part in parts), tuple(parts))
        if not isinstance(item, str):
            raise DesignError(
                f"{where}: {item!r} is no reference; allowed: a name, a path, null, or a list of two or more names"
            )
        return find_reference(item, self._root, self._references, where)

    def _tell_apart(self, axes: dict[str, list[Any]], experiment: Experiment, file: str) -> dict[str, str]:
        """Gives references on the axis different names, and returns path -> name, of images to start from too."""
        starting = [
            *(
                (setting["parameters"].get("init_image"), f"settings.{setting['name']}")
                for setting in axes.get(SETTING, ())
            ),
            *((value, "axes") for value in axes.get("init_image", ())),
            (experiment.base.init_image, "base"),
        ]
        images = [part for reference in axes["reference"] for part in parts_of(reference)]
        for value, place in starting:
            if value not in (None, OWN_REFERENCE):
                images += parts_of(self._reference(value, f"{file}: {place}.init_image"))
        names = distinct_names(images)
        axes["reference"] = [renamed(reference, names) for reference in axes["reference"]]
        return names

    def _neutral_references(
        self, values: dict[str, Any], references: tuple[Reference, ...], design: Design, file: str
    ) -> str | list[str]:
        """Returns what each reference is compared with, as identities, in the form of the cell's reference."""
        named = values["neutral_reference"]
        takes_neutral = NEUTRAL_SOURCE in transform("blend", values["blend"]).needs
        if not takes_neutral or values["alpha"] == 0.0 or not references:
            return NEUTRAL["neutral_reference"]
        if named == GREY:
            found = [grey_reference(part.width, part.height) for part in references]
        else:
            neutral = find_reference(named, self._root, self._references, f"{file}: neutral_reference")
            design.references.setdefault(neutral.sha256, neutral.path)
            found = [neutral.sha256] * len(references)
        return found if isinstance(values["reference"], ReferenceSet) else found[0]

    def _check_size(self, experiment: Experiment, lengths: dict[str, int], file: str) -> None:
        count = math.prod(lengths.values())
        own = experiment.max_images
        allowed = own or self._limits.max_images
        if count > allowed:
            factors = " x ".join(f"{length} {name}" for name, length in lengths.items() if length > 1)
            key = f"{file}: max_images" if own else "config/config.yaml: limits.max_images"
            raise DesignError(
                f"{file}: {factors} = {count} cells, more than max_images {allowed}; shorten an axis, or set "
                f"max_images: {count} in {file} (the limit comes from {key})"
            )

    def _check_grids(self, experiment: Experiment, axes: Sequence[str], file: str) -> list[Grid]:
        grids = []
        for index, grid in enumerate(experiment.grids):
            for side in (grid.x, grid.y):
                if side is not None:
                    require_known(side, axes, "axis", f"{file}: grids.{index}")
            if grid.x == grid.y:
                raise DesignError(f"{file}: grids.{index}: x and y are both {grid.x!r}; they must differ")
            grids.append(Grid(grid.x, grid.y, None if grid.pages == "all" else grid.pages))
        if len({(grid.x, grid.y) for grid in grids}) < len(grids):
            raise DesignError(f"{file}: grids: the same pair of axes occurs twice")
        return grids

    def _models_used(
        self, constant: dict[str, Any], axes: dict[str, list[Any]], of_controls: Sequence[str], file: str
    ) -> tuple[list[tuple[Model, Model]], list[Model]]:
        """Returns the generators, each with its text encoder, and the encoders that are blended in."""
        named = dict.fromkeys([*axes.get("generator", [constant["generator"]]), *of_controls])
        generators = [self._generator(name, file) for name in named]
        names = [name for name in axes.get("encoder", [constant["encoder"]]) if name]
        encoders = [self._models.get("encoder", name, f"{file}: encoder") for name in names]
        return [(generator, self._text_encoder(generator)) for generator in generators], encoders

    def _choose_scores(
        self, experiment: Experiment, axes: dict[str, list[Any]], design: Design, file: str
    ) -> None:
        names = experiment.scores
        if len(set(names)) < len(names):
            raise DesignError(f"{file}: scores: {max(names, key=names.count)!r} occurs more than once")
        sides = (axes.get(name, [getattr(experiment.base, name)]) for name in ("height", "width"))
        sizes = list(itertools.product(*sides))
        references = [part for reference in axes["reference"] for part in parts_of(reference)]
        check_scores(names, ScoreInputs(axes["prompt"], references, sizes, self._root, file))
        design.scoring = choose_scorers(
            names, experiment.scorers, experiment.reference_captions, references, self._models, file
        )

    def _generator(self, name: str | None, file: str) -> Model:
        if name is None:
            raise DesignError(
                f"{file}: base.generator is missing; allowed: {', '.join(self._models.names('generator'))} (or set "
                "defaults.generator in config/config.yaml)"
            )
        return self._models.get("generator", name, f"{file}: generator")

    def _text_encoder(self, generator: Model) -> Model:
        where = f"{self._models.file}: generators.{generator.name}.text_encoder"
        return self._models.get("encoder", generator.entry["text_encoder"], where)

    def _resolve(self, values: dict[str, Any], role: str, design: Design, file: str) -> Cell:
        generator = self._generator(values["generator"], file)
        text = self._text_encoder(generator)
        encoder = values.get("encoder") and self._models.get(
            "encoder", values["encoder"], f"{file}: base.encoder"
        )
        reference: Reference | ReferenceSet | None = values.get("reference")
        init_image: Reference | None = values["init_image"]
        prompt: Prompt = values["prompt"]
        values = fill_in_template(fill_in_formats(fill_in_defaults(values), text, encoder), generator)
        values = fill_in_layers(fill_in_sampling(values), generator, file)
        models = CellModels(generator, text, encoder, self._models.file)
        check_fit(values, models, file)
        check_encoding(values, text, encoder, file)
        check_sampling(values, generator, file)
        for model in filter(None, (generator, text, encoder)):
            design.models.setdefault(model.identity, ModelRecord.of(model))
        references = parts_of(reference)
        for image in filter(None, (*references, init_image)):
            design.references.setdefault(image.sha256, image.path)
        shown = {
            **{name: without_nulls(value) for name, value in values.items()},
            "prompt": prompt.text,
            "prompt_name": prompt.name if prompt.name != prompt.text else None,
            "reference": reference and reference.name,
            "init_image": init_image and init_image.name,
        }
        parameters = {
            **values,
            "prompt": prompt.text,
            "reference": [part.sha256 for part in references]
            if isinstance(reference, ReferenceSet)
            else reference and reference.sha256,
            "init_image": init_image and init_image.sha256,
            "generator": generator.identity,
            "text_encoder": text.identity,
            "encoder": encoder.identity if encoder else None,
            **self._statistics.resolve(values, models, design, file),
            **self._maps.resolve(values, models, design, file),
            **self._vectors.resolve(values, models, design, file),
        }
        if "neutral_reference" in values:
            parameters["neutral_reference"] = self._neutral_references(values, references, design, file)
        return Cell(cell_id(parameters), role, parameters, shown)


def _place(design: Design, indices: list[int], members: Sequence[Member], has_baselines: bool) -> None:
    """Puts a cell and its controls where they are in the design, and says what each is compared with."""
    has_controls = any(axis.name == CONTROL for axis in design.axes)
    for place, member in enumerate(members):
        name, text = member.cell.cell, member.text_alone.cell
        design.positions.append(([*indices, place] if has_controls else indices, name))
        if has_baselines and (place == 0 or name != text):
            design.baselines[name] = text


def _check_repeated(experiment: Experiment, axes: dict[str, list[Any]], file: str) -> None:
    for name, values in axes.items():
        where = f"{file}: " + (
            f"axes.{name}" if name in experiment.axes else f"base.{INPUT_AXES.get(name, name)}"
        )
        if not values:
            raise DesignError(f"{where}: the list is empty; give at least one value, or remove the axis")
        repeated = [item for item, count in Counter(map(repr, values)).items() if count > 1]
        if repeated:
            raise DesignError(f"{where}: value {repeated[0]} occurs more than once")


def _lengths(experiment: Experiment) -> dict[str, int]:
    """Returns how many values each axis has as it is written; of prompts in a file, at least one."""
    base = experiment.base
    lengths = {
        "prompt": 1 if isinstance(base.prompts, str) else len(base.prompts),
        "reference": len(base.references) or 1,
        "seed": len(base.seeds),
    }
    if experiment.settings:
        lengths[SETTING] = len(experiment.settings)
    for name, values in experiment.axes.items():
        lengths[name] = values.count if isinstance(values, Range) else len(values)
    return lengths
