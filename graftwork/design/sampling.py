"""Schedules, guidance and image-to-image of a cell: filled in, and checked before a model is loaded."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from graftwork.core.errors import DesignError
from graftwork.design.parameters import NEUTRAL, acting_with
from graftwork.design.schema import DECLARATIONS
from graftwork.models.families import first_step, generator_family
from graftwork.transforms.context import WHOLE_SOURCE
from graftwork.transforms.registry import transform
from graftwork.transforms.schedules import AlphaSchedule

if TYPE_CHECKING:
    from graftwork.core.inputs import Reference, ReferenceSet
    from graftwork.design.cells import ModelRecord
    from graftwork.models.catalog import Model

# The value of `init_image` that stands for a cell's own reference.
OWN_REFERENCE = "reference"
# Parameters of guidance that not every family has.
_GUIDANCE_OPTIONS = ("cfg_normalization", "cfg_truncation")
# Settings of a scheduler that spread sigmas between the first and the last: a part of a schedule is no part of these.
_SPREADING = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")


def find_init_image(
    values: Mapping[str, Any],
    find: "Callable[[str | None, str], Reference | ReferenceSet | None]",
    where: str,
) -> "Reference | None":
    """Returns the image that a cell starts from.

    Args:
        values: Parameters of the cell, with its reference found.
        find: (name or path, where) to the image.
        where: File and key, for messages.

    Raises:
        DesignError: where the cell's reference is meant and it has none.
    """
    name = values["init_image"]
    if name != OWN_REFERENCE:
        return find(name, where)
    if values["reference"] is None:
        raise DesignError(
            f"{where}: {name!r} stands for a cell's reference, but there are cells without one; give base.references with "
            "no null among them, or the name or path of an image, or init_image: null"
        )
    if hasattr(values["reference"], "parts"):
        raise DesignError(
            f"{where}: {name!r} stands for a cell's reference, but {values['reference'].name} is a set of several; give the "
            "name or path of one image, or init_image: null"
        )
    return values["reference"]


def fill_in_sampling(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a cell's parameters with those of sampling that take no part at their neutral value.

    With guidance the negative prompt is a text, "" where none is given, as diffusers has it.
    """
    filled = dict(values)
    if filled["guidance_scale"] > 0.0 and filled["negative_prompt"] is None:
        filled["negative_prompt"] = ""
    for name, declared in DECLARATIONS.items():
        if name in filled and declared.acts_with is not None and not filled[declared.acts_with]:
            filled[name] = NEUTRAL[name]
    return filled


def check_sampling(values: Mapping[str, Any], generator: "Model", file: str) -> None:
    """Refuses schedules and images to start from that a cell cannot have.

    Args:
        values: Parameters of a cell, filled in; a baseline has no `alpha_schedule`.
        generator: Generator of the cell.
        file: Path of the experiment, for messages.

    Raises:
        DesignError: naming the value, what is allowed, and the key.
    """
    steps = values["num_inference_steps"]
    _check_options(values, generator, file)
    if values["init_image"] is not None:
        first = first_step(steps, values["strength"])
        if first >= steps:
            raise DesignError(
                f"{file}: strength {values['strength']} leaves none of num_inference_steps {steps} to run, so that the "
                "image would be init_image itself; allowed: numbers above 0, up to 1"
            )
        scheduler = generator.facts.scheduler_config
        spreading = [name for name in _SPREADING if scheduler.get(name)]
        if spreading and first:
            raise DesignError(
                f"{file}: init_image cannot be combined with generator {generator.name!r}, whose scheduler has "
                f"{spreading[0]}: its steps cannot be begun in the middle; set init_image: null"
            )
    if values.get("alpha_schedule") is not None:
        _check_schedule(values, file)


def _check_options(values: Mapping[str, Any], generator: "Model", file: str) -> None:
    """Refuses what the family of a generator cannot do."""
    family = generator_family(generator.facts.family)
    options, which = family.sampling, f"generator {generator.name!r}"
    if values["guidance_scale"] > 0:
        problem = options.guidance_problem(generator.facts)
        if problem is not None:
            raise DesignError(
                f"{file}: guidance_scale {values['guidance_scale']} cannot be used with {which}: {problem}; allowed: 0"
            )
        for name in _GUIDANCE_OPTIONS:
            if name not in options.guidance_options and values[name] != NEUTRAL[name]:
                raise DesignError(
                    f"{file}: {name} {values[name]} cannot be used with {which}, whose family {family.name} has no such "
                    f"option; set {name}: {NEUTRAL[name]}"
                )
    if values["init_image"] is not None and not options.starts_from_images:
        raise DesignError(
            f"{file}: init_image cannot be used with {which}, whose family {family.name} starts from noise; set "
            "init_image: null"
        )
    if values.get("alpha_schedule") is not None and not family.captions.changes_between_steps:
        raise DesignError(
            f"{file}: alpha_schedule cannot be used with {which}, whose family {family.name} has one caption for all "
            "steps; set alpha_schedule: null"
        )


def _check_schedule(values: Mapping[str, Any], file: str) -> None:
    schedule = AlphaSchedule.model_validate(values["alpha_schedule"])
    steps = values["num_inference_steps"] - starting_step(values)
    if steps == 1:
        raise DesignError(
            f"{file}: alpha_schedule {schedule.kind!r} has a single step to run over (num_inference_steps "
            f"{values['num_inference_steps']}"
            + (f", strength {values['strength']}" if values["init_image"] is not None else "")
            + "); allowed: at least 2 steps, or alpha_schedule: null"
        )
    if schedule.kind == "constant" and schedule.maximum == 0.0:
        raise DesignError(
            f"{file}: alpha_schedule 'constant' with maximum 0.0 is the text alone; allowed: a maximum above 0, or "
            "alpha: 0 and alpha_schedule: null"
        )
    if values["alpha"] == 0.0 or (schedule.kind == "constant" and schedule.maximum == 1.0):
        return  # The text alone, or alpha as it is.
    blend = transform("blend", values["blend"])
    if not blend.has_alpha:
        raise DesignError(
            f"{file}: alpha_schedule {schedule.kind!r} needs a blend with an alpha, which blend {blend.name!r} has not; "
            "choose another blend, or set alpha_schedule: null"
        )
    matching = transform("length_matching", values["length_matching"])
    if matching.keeps_length and WHOLE_SOURCE not in blend.needs:
        raise DesignError(
            f"{file}: alpha_schedule {schedule.kind!r} needs a source as long as the text, but length_matching "
            f"{matching.name!r} keeps its own length, which is for alpha 1 alone; choose another length_matching, or set "
            "alpha_schedule: null"
        )


def check_what_acts(axes: Mapping[str, Sequence[Any]], constant: Mapping[str, Any], file: str) -> None:
    """Refuses parameters of sampling that act in no cell of an experiment.

    Args:
        axes: Values of every axis.
        constant: Values of what is no axis.
        file: Path of the experiment, for messages.
    """

    def values_of(name: str) -> Sequence[Any]:
        return axes.get(name, [constant[name]])

    if not any(scale > 0 for scale in values_of("guidance_scale")):
        for name in acting_with("guidance_scale"):
            for value in values_of(name):
                if value != NEUTRAL[name]:
                    raise DesignError(
                        f"{file}: {name} {value!r} does nothing without guidance; set guidance_scale to a number above 0, "
                        f"or {name}: {'null' if NEUTRAL[name] is None else NEUTRAL[name]}"
                    )
    schedules = [value for value in values_of("alpha_schedule") if value is not None]
    if schedules and not any(values_of("alpha")):
        raise DesignError(
            f"{file}: alpha_schedule {schedules[0]['kind']!r} does nothing at alpha 0, the text alone; set alpha to a "
            "number above 0, or alpha_schedule: null"
        )


def negative_prompts(axes: Mapping[str, Sequence[Any]], constant: Mapping[str, Any]) -> list[str]:
    """Returns the negative prompts of an experiment's cells; none without guidance."""
    if not any(scale > 0 for scale in axes.get("guidance_scale", [constant["guidance_scale"]])):
        return []
    return [
        "" if text is None else text for text in axes.get("negative_prompt", [constant["negative_prompt"]])
    ]


def starting_step(values: Mapping[str, Any]) -> int:
    """Returns the first step that a cell runs, counted from 0; without an image to start from it is that."""
    if values.get("init_image") is None:
        return 0
    return first_step(values["num_inference_steps"], values["strength"])


def sampling_warnings(values: Mapping[str, Any]) -> list[str]:
    """Returns what about the sampling of a cell may be meant otherwise, one text each.

    Args:
        values: Resolved parameters of a cell.
    """
    steps = values.get("num_inference_steps")
    if values.get("init_image") is None or starting_step(values) > 0:
        return []
    return [
        f"strength {values['strength']} at num_inference_steps {steps} starts from pure noise, so that init_image takes "
        "no part"
        # Rounded down: a strength that were a little above would be none of these.
        + (
            f"; it does up to strength {1000 * (steps - 1) // steps / 1000}"
            if steps > 1
            else "; it does from 2 steps on"
        )
    ]


def guidance_note(generator: "ModelRecord") -> str | None:
    """Returns what guidance does to a generator that was not trained with it; None where it was."""
    if generator.facts.is_distilled is False:
        return None
    known = "was" if generator.facts.is_distilled else "may have been"
    return (
        f"guidance_scale above 0: generator {generator.name!r} {known} distilled to do without guidance, so that its images "
        "may get worse; each step runs the transformer on twice as many rows"
    )


def sampling_notes(cells: Iterable[Mapping[str, Any]], models: "Mapping[str, ModelRecord]") -> list[str]:
    """Returns notes on an experiment, each once.

    Args:
        cells: Resolved parameters of its cells.
        models: Identity -> model.
    """
    notes: dict[str, None] = {}
    for values in cells:
        note = guidance_note(models[values["generator"]]) if values["guidance_scale"] > 0 else None
        if note is not None:
            notes[note] = None
        notes |= dict.fromkeys(sampling_warnings(values))
    return list(notes)
