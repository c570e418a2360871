"""Controls of an experiment: cells that show what a source does which anything else, or another method, would do as well.

`noise` is the cell itself, with the change that its source makes to each token turned into a random direction. `words` is
the text alone, with the reference put into words and joined to the prompt. What the words are is known when the encoder
has written them; a cell is named by the reference, the encoder and what it was asked. Further controls are generators that
were trained to take a reference: the text alone of such a generator, which is shown the reference beside it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from graftwork.core.cells import CONTROL, Axis, Cell, Parameters
from graftwork.core.errors import DesignError
from graftwork.core.inputs import Reference
from graftwork.design.baselines import Baselines
from graftwork.design.cells import ModelRecord
from graftwork.design.inputs import parts_of
from graftwork.design.parameters import cell_id
from graftwork.design.schema import Experiment
from graftwork.design.settings import REFERENCE_CONTROLS, ReferenceControl, Words
from graftwork.models.families import encoder_family, generator_families, generator_family

NOISE, WORDS = "noise", "words"
# Of a control by a generator that is shown the reference: strength of the reference.
_SCALE = "scale"


@dataclass(frozen=True)
class Member:
    """A cell at a place of an experiment.

    Attributes:
        cell: the cell, or one of its controls.
        text_alone: what it is compared with: the image of its generator for the prompt.
    """

    cell: Cell
    text_alone: Cell


class ControlCells:
    """Makes the controls of cells.

    Attributes:
        axis: the axis `control`; None for an experiment without controls.
        generators: names of the generators that controls have of their own.
    """

    def __init__(self, experiment: Experiment, file: str):
        """Refuses controls that occur twice.

        Args:
            experiment: the experiment.
            file: its path, for messages.
        """
        self._file = file
        self._values: dict[str, Mapping[str, Any]] = {}
        # Label -> what its generator and sampling are, where they are not those of the cell.
        self._changes: dict[str, Mapping[str, Any]] = {}
        for key in ("controls", "noise_seeds"):
            given = getattr(experiment, key)
            if len(set(given)) < len(given):
                raise DesignError(
                    f"{file}: {key}: {max(given, key=given.count)!r} occurs more than once; remove it once"
                )
        seeds = experiment.noise_seeds
        for name in experiment.controls:
            if name == WORDS:
                self._values[WORDS] = {WORDS: (experiment.words or Words()).model_dump()}
            elif name == NOISE:
                labels = [f"{NOISE} {seed}" for seed in seeds] if len(seeds) > 1 else [NOISE]
                self._values |= {label: {NOISE: seed} for label, seed in zip(labels, seeds, strict=True)}
            else:
                self._add_by_reference(name, getattr(experiment, name))
        self.generators = sorted(
            {changes["generator"] for changes in self._changes.values() if "generator" in changes}
        )
        self.axis = (
            Axis(CONTROL, [None, *self._values.values()], ["none", *self._values]) if self._values else None
        )

    def _add_by_reference(self, name: str, settings: ReferenceControl | None) -> None:
        given = (settings or REFERENCE_CONTROLS[name]()).model_dump(exclude_none=True)
        scales = given.pop("scales", [None])
        for scale in scales:
            label = name if len(scales) == 1 else f"{name} {scale}"
            self._values[label] = {name: {} if scale is None else {_SCALE: scale}}
            self._changes[label] = given

    def of(
        self, cell: Cell, values: Mapping[str, Any], baselines: Baselines, models: Mapping[str, ModelRecord]
    ) -> list[Member]:
        """Returns the cells of one place of the experiment, in the order of the axis: the cell, then its controls.

        At alpha 0 there is no change to turn into noise, and without a reference nothing to put into words or to show: there
        the control is the cell itself, or the text alone.

        Args:
            cell: cell of the experiment.
            values: its parameters, not resolved.
            baselines: what makes the text alone.
            models: identity -> model, of the design.
        """
        text_alone = baselines.of(values)
        members = [Member(cell, text_alone)]
        for label, value in self._values.items():
            if label in self._changes:
                text = baselines.of(values, self._changes[label])
                members.append(
                    Member(self._by_reference(label, cell, text, models, parts_of(values["reference"])), text)
                )
            else:
                members.append(Member(self._control(label, value, cell, text_alone), text_alone))
        return members

    @staticmethod
    def _control(label: str, value: Mapping[str, Any], cell: Cell, text_alone: Cell) -> Cell:
        if NOISE in value:
            if cell.parameters["alpha"] == 0.0:
                return cell
            return _controlled(cell, {CONTROL: value}, {CONTROL: label})
        if cell.parameters["reference"] is None or cell.parameters["encoder"] is None:
            return text_alone
        seen = {name: cell.parameters[name] for name in ("encoder", "reference")}
        shown = {name: cell.shown[name] for name in ("encoder", "reference")}
        return _controlled(text_alone, {**seen, CONTROL: value}, {**shown, CONTROL: label})

    def _by_reference(
        self,
        label: str,
        cell: Cell,
        text: Cell,
        models: Mapping[str, ModelRecord],
        references: Sequence[Reference],
    ) -> Cell:
        value = self._values[label]
        _check_references(next(iter(value)), models[text.parameters["generator"]], references, self._file)
        if not references:
            return text
        return _controlled(
            text,
            {"reference": cell.parameters["reference"], CONTROL: value},
            {"reference": cell.shown["reference"], CONTROL: label},
        )

    def check(self, cells: Sequence[Cell], models: Mapping[str, ModelRecord], file: str) -> None:
        """Refuses controls that need a reference where no cell has one, and encoders that write nothing about one.

        Args:
            cells: cells of the experiment, without controls.
            models: identity -> model.
            file: its path, for messages.
        """
        if WORDS in self._values:
            _check_captioners(cells, models, file)
        needy = [name for value in self._values.values() for name in value if name != NOISE]
        if needy and all(cell.parameters["reference"] is None for cell in cells):
            purpose = "put into words" if needy[0] == WORDS else "show to a generator"
            raise DesignError(
                f"{file}: controls: {needy[0]} needs a reference to {purpose}, and no cell has one; give base.references, or "
                f"remove {needy[0]}"
            )


def _check_captioners(cells: Sequence[Cell], models: Mapping[str, ModelRecord], file: str) -> None:
    asked = {cell.parameters["encoder"] for cell in cells if cell.parameters["reference"] is not None}
    for encoder in (models[identity] for identity in asked if identity is not None):
        if encoder_family(encoder.facts.family).captioner is None:
            raise DesignError(
                f"{file}: controls: words asks encoder {encoder.name!r} about the reference, but encoders of family "
                f"{encoder.facts.family} write nothing; choose another encoder, or remove words"
            )


def _check_references(
    control: str, generator: ModelRecord, references: Sequence[Reference], file: str
) -> None:
    """Refuses a generator that was not trained to take a reference in this way, and references that it cannot take.

    Raises:
        DesignError: naming the value, what is allowed, and the key.
    """
    taken = generator_family(generator.facts.family).references
    if taken is None or taken.control != control:
        able = [
            name
            for name, family in generator_families().items()
            if family.references is not None and family.references.control == control
        ]
        raise DesignError(
            f"{file}: controls: {control} cannot be made by generator {generator.name!r} of family "
            f"{generator.facts.family}; set {control}.generator to one of family {' or '.join(able) or '(there is none)'}, or "
            f"remove {control}"
        )
    for reference in references:
        if problem := taken.image_problem(reference.width, reference.height):
            raise DesignError(
                f"{file}: reference {reference.name!r} ({reference.path}, {reference.width} x {reference.height} pixels) "
                f"cannot be shown to generator {generator.name!r} by the control {control}: {problem}, or choose another in "
                "base.references"
            )


def _controlled(cell: Cell, parameters: Parameters, shown: Parameters) -> Cell:
    changed = {**cell.parameters, **parameters}
    return replace(
        cell, cell=cell_id(changed), role="control", parameters=changed, shown={**cell.shown, **shown}
    )


def words_of(cell: Parameters) -> Words | None:
    """Returns how the reference of a control cell is put into words; None for a cell that is no control of this kind."""
    control = cell.get(CONTROL)
    return Words.model_validate(control[WORDS]) if control and WORDS in control else None


def noise_of(cell: Parameters) -> int | None:
    """Returns the seed of a control cell's noise; None for a cell that is no control of this kind."""
    control = cell.get(CONTROL)
    return control[NOISE] if control and NOISE in control else None


def references_of(cell: Parameters) -> tuple[str, ...]:
    """Returns the SHA-256 of the images that the generator of a control cell is shown; empty for every other cell."""
    control = cell.get(CONTROL)
    if not control or NOISE in control or WORDS in control:
        return ()
    reference = cell["reference"]
    return tuple(reference) if isinstance(reference, list | tuple) else (reference,)


def reference_scale_of(cell: Parameters) -> float | None:
    """Returns the strength of these images; None where there are none, or it cannot be set."""
    return next(iter(cell[CONTROL].values())).get(_SCALE) if references_of(cell) else None


def keys_of(cell: Parameters) -> dict[str, Any]:
    """Returns what an experiment says beside `base`, by key, to make a control cell; nothing for every other cell."""
    control = cell.get(CONTROL)
    if not control:
        return {}
    kind, value = next(iter(control.items()))
    settings = {"noise_seeds": [value]} if kind == NOISE else {WORDS: value} if kind == WORDS else {}
    if (scale := reference_scale_of(cell)) is not None:
        settings = {kind: {"scales": [scale]}}
    return {"controls": [kind], **settings}


def join_words(join: str, prompt: str, answers: Sequence[str]) -> str:
    """Returns a prompt with the answers of an encoder.

    Args:
        join: as in `Words`.
        prompt: text of the prompt; braces in it are braces.
        answers: one for each question.
    """
    values = {"prompt": prompt, **{str(number): text for number, text in enumerate(answers, start=1)}}
    return re.sub(r"\{(\w+)\}", lambda field: values[field[1]], join)


def controls_in_words(cells: Sequence[Cell]) -> str:
    """Returns how many controls there are of each kind, such as `96 noise, 2 words`; empty for none."""
    kinds = [cell.shown[CONTROL] for cell in cells if cell.role == "control"]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
