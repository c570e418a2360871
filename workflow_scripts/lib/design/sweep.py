"""From an experiment file to cells: the product of its axes, resolved, checked and named."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from workflow_scripts.lib.conditioning.registry import fill_in_defaults
from workflow_scripts.lib.design.encoding import check_encoding, check_texts, fill_in_formats
from workflow_scripts.lib.design.errors import DesignError, expected, explain, require_known, suggest
from workflow_scripts.lib.design.fit import check_fit
from workflow_scripts.lib.design.identity import cell_id, digest
from workflow_scripts.lib.design.inputs import (
    Prompt,
    Reference,
    find_reference,
    read_prompts,
)
from workflow_scripts.lib.design.schema import CellParameters, Experiment, Limits, Range
from workflow_scripts.lib.design.statistics_of_cells import StatisticsOfCells, without_nulls
from workflow_scripts.lib.models.catalog import Model, ModelCatalog, same_weights
from workflow_scripts.lib.presentation.labels import format_values
from workflow_scripts.lib.scoring.registry import ScoreInputs, check_scores
from workflow_scripts.lib.store.fact_cache import FactCache

# Parameters that come as lists in `base`, and the key there.
INPUT_AXES = {"prompt": "prompts", "reference": "references", "seed": "seeds"}
# What a baseline (the text alone) depends on; everything else about a cell concerns the source.
BASELINE_PARAMETERS = (
    "prompt",
    "seed",
    "generator",
    "text_hidden_layer",
    "text_prompt_format",
    "text_system_prompt",
    "text_think_block",
    "height",
    "width",
    "num_inference_steps",
    "guidance_scale",
)
# A page has at most 12000 pixels on a side, and a tile at least 96.
MOST_TILES_ON_A_SIDE = 100


@dataclass(frozen=True)
class Axis:
    """A parameter that varies: its values as resolved, and how they are shown."""

    name: str
    values: list[Any]
    labels: list[str]


@dataclass
class Cell:
    """One image.

    Attributes:
        cell: Its name, which follows from `parameters`.
        role: cell, baseline or control.
        parameters: Resolved: prompts as text, references as SHA-256, models as identities.
        shown: The same for people: names of prompts, references and models.
    """

    cell: str
    role: str
    parameters: dict[str, Any]
    shown: dict[str, Any]


@dataclass
class Design:
    """An experiment, expanded.

    Attributes:
        experiment: Its name.
        axes: In the order of the file, prompt, reference and seed first.
        cells: Unique by name; baselines first, since "the same image as an earlier cell" should point to them.
        positions: For each combination of axis indices, the name of its cell.
        baselines: For each such combination, the name of its baseline.
        grids: [{x, y}], axis names; y may be None.
        models: Identity -> {kind, name, entry, facts}.
        references: SHA-256 -> path.
        scores: What is measured of the images. Neither in design.json nor in `digest`: it makes no image and no plan.
        notes: What may be meant otherwise, one line each; no error.
        corpora: Digest -> {name, prompts, references}, texts and SHA-256.
        statistics_files: SHA-256 of a file of statistics -> path.
    """

    experiment: str
    title: str
    question: str
    axes: list[Axis]
    cells: list[Cell]
    positions: list[tuple[list[int], str]]
    baselines: dict[str, str]
    grids: list[dict[str, Any]]
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)
    scores: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    corpora: dict[str, dict[str, Any]] = field(default_factory=dict)
    statistics_files: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as written to design.json; parts are shared, not copied."""
        plain = {key: value for key, value in vars(self).items() if key != "scores"}
        plain["axes"] = [dict(vars(axis)) for axis in self.axes]
        plain["cells"] = [dict(vars(cell)) for cell in self.cells]
        return plain

    @property
    def digest(self) -> str:
        """Stands for everything in the design: cells by their names, and what is shown of them."""
        apart = ("cells", "positions", "baselines", "scores")
        plain = {key: value for key, value in vars(self).items() if key not in apart}
        plain["axes"] = [vars(axis) for axis in self.axes]
        plain["cells"] = [[cell.cell, cell.role] for cell in self.cells]
        plain["shown"] = [self.cells[0].shown, self.cells[-1].shown]
        return digest(plain)


class Expander:
    """Expands experiments against one set of models, references and limits."""

    def __init__(
        self,
        root: Path,
        models: ModelCatalog,
        references: FactCache,
        limits: Limits,
        defaults: dict[str, Any],
    ):
        self._root = root
        self._models = models
        self._references = references
        self._limits = limits
        self._defaults = defaults
        self._statistics = StatisticsOfCells(root, models, references)

    def expand(self, name: str, raw: Any, file: str) -> Design:
        """Returns the design of one experiment.

        Args:
            name: Of the experiment.
            raw: Content of its file.
            file: Path of the file, for messages.

        Raises:
            DesignError: for anything that cannot be built, before any model is loaded.
        """
        experiment = self._validate(raw, file)
        axes = self._axes(experiment, file)
        self._check_size(experiment, axes, file)
        grids = self._check_grids(experiment, axes, file)
        design = Design(
            name,
            experiment.title or name,
            experiment.question,
            [Axis(axis, _plain(values), _labels(axis, values)) for axis, values in axes.items()],
            [],
            [],
            {},
            grids,
            scores=list(experiment.scores),
        )
        constant = experiment.base.model_dump(exclude=set(INPUT_AXES.values()))
        hosts, encoders = self._models_used(constant, axes, file)
        check_texts(axes, constant, hosts, encoders, experiment.allow_control_tokens, file)
        design.notes = same_weights([*itertools.chain(*hosts), *encoders], self._models.file)
        self._check_scores(experiment, axes, file)
        cells: dict[str, Cell] = {}
        baselines: dict[str, Cell] = {}
        resolved: dict[str, Cell] = {}
        for indices in itertools.product(*(range(len(values)) for values in axes.values())):
            chosen = {axis: axes[axis][index] for axis, index in zip(axes, indices, strict=True)}
            cell = self._resolve({**constant, **chosen}, "cell", design, file)
            cells.setdefault(cell.cell, cell)
            design.positions.append((list(indices), cell.cell))
            if experiment.baseline:
                parameters = {key: {**constant, **chosen}[key] for key in BASELINE_PARAMETERS}
                choice = repr(parameters)  # Values may be structured, which a key may not.
                if choice not in resolved:
                    resolved[choice] = self._resolve({**parameters, "alpha": 0.0}, "baseline", design, file)
                baseline = resolved[choice]
                baselines.setdefault(baseline.cell, baseline)
                design.baselines[cell.cell] = baseline.cell
        design.cells = [
            *(cell for cell in baselines.values() if cell.cell not in cells),
            *cells.values(),
        ]
        design.notes += self._statistics.notes(design)
        return design

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
        known = [*INPUT_AXES, *CellParameters.model_fields]
        for name, values in experiment.axes.items():
            where = f"{file}: axes.{name}"
            if name not in known:
                require_known(name, known, "axis", f"{file}: axes")
            items = _spread(values) if isinstance(values, Range) else values
            if name == "prompt":
                axes[name] = read_prompts(items, self._root, where)
            elif name == "reference":
                axes[name] = [self._reference(item, where) for item in items]
            else:
                axes[name] = [_validate_value(name, item, where) for item in items]
        for name, values in axes.items():
            where = f"{file}: " + (
                f"axes.{name}" if name in experiment.axes else f"base.{INPUT_AXES.get(name)}"
            )
            if not values:
                raise DesignError(f"{where}: the list is empty; give at least one value, or remove the axis")
            shown = [repr(value) for value in values]
            repeated = [item for item in shown if shown.count(item) > 1]
            if repeated:
                raise DesignError(f"{where}: value {repeated[0]} occurs more than once")
        return axes

    def _reference(self, item: Any, where: str) -> Reference | None:
        if item is None:
            return None
        if not isinstance(item, str):
            raise DesignError(f"{where}: {item!r} is no reference; allowed: a name, a path, or null")
        return find_reference(item, self._root, self._references, where)

    def _check_size(self, experiment: Experiment, axes: dict[str, list[Any]], file: str) -> None:
        count = math.prod(len(values) for values in axes.values())
        own = experiment.max_images
        allowed = own or self._limits.max_images
        if count > allowed:
            factors = " x ".join(f"{len(values)} {name}" for name, values in axes.items() if len(values) > 1)
            key = f"{file}: max_images" if own else "config/config.yaml: limits.max_images"
            raise DesignError(
                f"{file}: {factors} = {count} cells, more than max_images {allowed}; shorten an axis, or set "
                f"max_images: {count} in {file} (the limit comes from {key})"
            )

    def _check_grids(
        self, experiment: Experiment, axes: dict[str, list[Any]], file: str
    ) -> list[dict[str, Any]]:
        grids = []
        for index, grid in enumerate(experiment.grids):
            for side in (grid.x, grid.y):
                if side is not None:
                    require_known(side, axes, "axis", f"{file}: grids.{index}")
                if side is not None and len(axes[side]) > MOST_TILES_ON_A_SIDE:
                    raise DesignError(
                        f"{file}: grids.{index}: {side} has {len(axes[side])} values, more than fit on a page "
                        f"({MOST_TILES_ON_A_SIDE}); put another axis on the grid, or split the experiment"
                    )
            if grid.x == grid.y:
                raise DesignError(f"{file}: grids.{index}: x and y are both {grid.x!r}; they must differ")
            grids.append({"x": grid.x, "y": grid.y})
        if len({(grid["x"], grid["y"]) for grid in grids}) < len(grids):
            raise DesignError(f"{file}: grids: the same pair of axes occurs twice")
        return grids

    def _models_used(
        self, constant: dict[str, Any], axes: dict[str, list[Any]], file: str
    ) -> tuple[list[tuple[Model, Model]], list[Model]]:
        """Returns the generators, each with its text encoder, and the encoders that are blended in."""
        generators = [self._generator(name, file) for name in axes.get("generator", [constant["generator"]])]
        names = [name for name in axes.get("encoder", [constant["encoder"]]) if name]
        encoders = [self._models.get("encoder", name, f"{file}: encoder") for name in names]
        return [(generator, self._text_encoder(generator)) for generator in generators], encoders

    def _check_scores(self, experiment: Experiment, axes: dict[str, list[Any]], file: str) -> None:
        names = experiment.scores
        if len(set(names)) < len(names):
            raise DesignError(f"{file}: scores: {max(names, key=names.count)!r} occurs more than once")
        sides = (axes.get(name, [getattr(experiment.base, name)]) for name in ("height", "width"))
        sizes = list(itertools.product(*sides))
        check_scores(names, ScoreInputs(axes["prompt"], axes["reference"], sizes, self._root, file))

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
        reference: Reference | None = values.get("reference")
        prompt: Prompt = values["prompt"]
        values = fill_in_formats(fill_in_defaults(values), text, encoder)
        check_fit(values, generator, text, encoder, self._models.file, file)
        check_encoding(values, text, encoder, file)
        for model in filter(None, (generator, text, encoder)):
            design.models.setdefault(
                model.identity,
                {"kind": model.kind, "name": model.name, "entry": model.entry, "facts": model.facts},
            )
        if reference is not None:
            design.references.setdefault(reference.sha256, reference.path)
        shown = {
            **{name: without_nulls(value) for name, value in values.items()},
            "prompt": prompt.text,
            "prompt_name": prompt.name if prompt.name != prompt.text else None,
            "reference": reference and reference.name,
        }
        parameters = {
            **values,
            "prompt": prompt.text,
            "reference": reference and reference.sha256,
            "generator": generator.identity,
            "text_encoder": text.identity,
            "encoder": encoder.identity if encoder else None,
            **self._statistics.resolve(values, generator, text, encoder, design, file),
        }
        return Cell(cell_id(parameters), role, parameters, shown)


def _validate_value(name: str, value: Any, where: str) -> Any:
    if name == "seed":
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
            raise DesignError(f"{where}: {value!r} is no seed; allowed: whole numbers from 0")
        return value
    candidates = [value, int(value)] if isinstance(value, float) and value.is_integer() else [value]
    for candidate in candidates:
        try:
            # Plain values: those with a form of their own, such as {text: ...}, come as a model.
            return CellParameters.model_validate({name: candidate}).model_dump(include={name})[name]
        except ValidationError as error:
            problem = error
    if name == "statistics" and isinstance(value, Mapping):  # Of several parts, of which one is wrong.
        file, _, key = where.rpartition(": ")
        raise explain(problem, file, CellParameters, key.removesuffix(f".{name}"))
    allowed = [str(item) for item in getattr(CellParameters.model_fields[name].annotation, "__args__", ())]
    hint = suggest(value, allowed) if isinstance(value, str) else ""
    raise DesignError(f"{where}: {value!r} is not allowed; allowed: {expected(problem.errors())}{hint}")


def _spread(values: Range) -> list[float]:
    first, last = values.range
    # Rounded: a value must be the same number whether it was reached by steps or written by hand.
    return [round(first + (last - first) * i / (values.count - 1), 12) + 0.0 for i in range(values.count)]


def _plain(values: list[Any]) -> list[Any]:
    return [
        asdict(value) if isinstance(value, Prompt | Reference) else without_nulls(value) for value in values
    ]


def _labels(name: str, values: list[Any]) -> list[str]:
    if name in ("prompt", "reference"):
        return ["none" if value is None else value.name for value in values]
    return format_values(_plain(values))
