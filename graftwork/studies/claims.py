"""`claims`: quantitative claims of llm-dit-experiments, each with its file and line, beside what is measured here.

A claim is never shown as a result. What is measured stands beside it, on the models at hand; a claim about a published
checkpoint is held against a measurement on that checkpoint alone, and on others the report says what to run.

Files and lines are those of https://github.com/fblissjr/llm-dit-experiments at the commits below.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from graftwork.core.tables import Row, format_number, read_table
from graftwork.models.description import encoder_folders
from graftwork.models.families import encoder_family
from graftwork.statistics.dimensions import compare_dimensions
from graftwork.studies.material import Material, ModelFiles
from graftwork.studies.registry import Study, register
from graftwork.studies.report import Part, StudyReport, Table

REPOSITORY = "https://github.com/fblissjr/llm-dit-experiments"
CONFIGS = ("experiments/qwen3_vl/docs/research/model_config_comparison.md", "84f3822")
README = ("experiments/qwen3_vl/README.md", "84f3822")
VARIANTS = ("experiments/qwen3_vl/docs/vl_thinking_comparison.md", "3d484df")
EMBEDDING = ("experiments/EMBEDDING_DIMENSION_ANALYSIS.md", "46a5efa")
ANALYSIS = "encoders"
# The family of models that the claims are about.
_PUBLISHED = "published"
_HELD, _NOT_HELD, _ELSEWHERE = "yes", "no", "needs the real checkpoint"


class NotMeasured(LookupError):
    """What a claim is about cannot be measured with what is there; the text says why."""


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes:
        source: file in the repository, and commit.
        line: line in the file.
        quantity: what is claimed, without its value.
        claimed: value that is claimed, as the document has it.
        measure: returns the value here; raises `NotMeasured`.
        holds: whether a measured value is the claimed one.
        is_of_checkpoint: whether it is about published checkpoints; others can be decided with any models.
        command: target that measures it.
    """

    source: tuple[str, str]
    line: int
    quantity: str
    claimed: str
    measure: Callable[[Material], Any]
    holds: Callable[[Any], bool]
    is_of_checkpoint: bool = True
    command: str = "study_claims"


def write(material: Material) -> StudyReport:
    """Returns the report."""
    rows = [_row(claim, material) for claim in CLAIMS]
    counts = {
        verdict: sum(row["held"] == verdict for row in rows) for verdict in (_HELD, _NOT_HELD, _ELSEWHERE)
    }
    rows.sort(key=lambda row: row["held"] == _ELSEWHERE)
    decided = counts[_HELD] + counts[_NOT_HELD]
    shown = ("quantity", "claimed", "measured here", "held", "target", "source")
    return StudyReport(
        answers=[
            f"Do they hold? {decided} of {len(rows)} claims can be decided with the models here: {counts[_HELD]} hold, {counts[_NOT_HELD]} do not. "
            f"{counts[_ELSEWHERE]} are about published checkpoints, which are not loaded here.",
            *[
                f"{'Holds' if row['held'] == _HELD else 'Does not hold'}: {row['quantity']}; claimed {row['claimed']}, measured {row['measured here']}."
                for row in rows
                if row["held"] == _NOT_HELD or (row["held"] == _HELD and counts[_ELSEWHERE])
            ],
        ],
        about=(
            f"What is measured here is of the family {material.family!r} of models. Where a claim is about another checkpoint, the measured number "
            "stands beside it for comparison and says nothing about the claim."
        ),
        caveats=[
            "The other claims are about published checkpoints. To decide them, set family: published in config/config.yaml on a machine "
            "that has these, and make this report again."
        ]
        if counts[_ELSEWHERE]
        else [],
        parts=[
            Part(
                "Every claim",
                [f"Lines are those of {REPOSITORY} at the commit in brackets. Target: what measures it."],
                Table(shown, [[row.get(name) for name in shown] for row in rows]),
            )
        ],
        tables={"claims": rows},
        data={"claims": rows},
    )


def _row(claim: Claim, material: Material) -> Row:
    try:
        value = claim.measure(material)
        measured = format_number(float(value)) if isinstance(value, int | float | np.floating) else str(value)
        is_there = not (isinstance(value, float) and math.isnan(value))
    except NotMeasured as error:
        value, measured, is_there = None, str(error), False
    can_decide = is_there and (material.family == _PUBLISHED or not claim.is_of_checkpoint)
    held = (_HELD if claim.holds(value) else _NOT_HELD) if can_decide else _ELSEWHERE
    file, commit = claim.source
    return {
        "quantity": claim.quantity,
        "claimed": claim.claimed,
        "measured here": measured,
        "held": held,
        "source": f"{file}:{claim.line} ({commit})",
        "target": claim.command if can_decide else f"{claim.command} --config family={_PUBLISHED}",
    }


def near(value: float, relative: float = 0.02) -> Callable[[Any], bool]:
    """Returns whether a number is a claimed one, up to what was rounded."""
    return lambda found: abs(float(found) - value) <= relative * abs(value)


def _encoder(material: Material, role: str) -> ModelFiles:
    name = material.roles.get(role)
    found = [model for model in material.models if model.kind == "encoder" and model.name == name]
    if not found or found[0].folder is None:
        raise NotMeasured(f"no encoder with the role {role} is on this machine")
    return found[0]


def _config(role: str, *path: str) -> Callable[[Material], Any]:
    def measure(material: Material) -> Any:
        model = _encoder(material, role)
        config = model.config(*filter(None, [model.entry.get("subfolder")]), "config.json")
        value: Any = config if path[0] == "vision_config" else config.get("text_config", config)
        for name in path:
            known = (
                value.get("rope_parameters") or value.get("rope_scaling") or {}
                if isinstance(value, Mapping)
                else {}
            )
            value = value.get(name, known.get(name)) if isinstance(value, Mapping) else None
        if value is None:
            raise NotMeasured(f"config.json of {model.name} has no {'.'.join(path)}")
        return value

    return measure


def _comparison(role: str, layer: int, tokens: str, value: str) -> Callable[[Material], float]:
    def measure(material: Material) -> float:
        name = material.roles.get(role, role)
        for one in material.task(ANALYSIS).comparisons:
            if (one.a.entry, one.a.hidden_layer, one.a.tokens) == (name, layer, tokens):
                found = material.comparison(ANALYSIS, one.name)
                if value in found:
                    return found[value]
        raise NotMeasured(f"analysis {ANALYSIS} has no {value} of {role}, layer {layer}, tokens {tokens}")

    return measure


def _stds(material: Material, role: str, layer: int, tokens: str) -> np.ndarray:
    """Returns the standard deviation of each dimension, float64 (channels,)."""
    return _column(material, role, layer, tokens, "std")


def _column(material: Material, role: str, layer: int, tokens: str, name: str) -> np.ndarray:
    folder = material.results / "statistics" / ANALYSIS / "statistics"
    file = folder / f"{material.roles.get(role)}_layer{layer}_{tokens}.csv"
    if not file.is_file():
        raise NotMeasured(f"analysis {ANALYSIS} has no statistics of {role}, layer {layer}, tokens {tokens}")
    return np.array([float(row[name] or "nan") for row in read_table(file)])


def _worst_factor(layer: int, tokens: str = "image") -> Callable[[Material], float]:
    def measure(material: Material) -> float:
        beside = "all" if tokens == "image" else tokens
        one, other = _stds(material, "vl", layer, tokens), _stds(material, "text", layer, beside)
        ratio = compare_dimensions(one, other).ratio
        return float(np.nanmax(np.maximum(ratio, 1 / ratio)))

    return measure


def _overall_std(role: str, tokens: str) -> Callable[[Material], float]:
    """Returns what measures the standard deviation of all values: spread within dimensions, and of their means."""

    def measure(material: Material) -> float:
        stds, means = (_column(material, role, -2, tokens, name) for name in ("std", "mean"))
        return float(np.sqrt(np.mean(np.square(stds)) + np.var(means)))

    return measure


def _count(name: str) -> Callable[[Material], int]:
    def measure(material: Material) -> int:
        one, other = (_stds(material, role, -2, "all") for role in ("embedding", "text"))
        compared = compare_dimensions(one, other)
        if name == "outlier":
            return len(compared.outlier.only_a) + len(compared.outlier.only_b)
        return len(getattr(compared, name).only_a)

    return measure


def _token_arithmetic(material: Material) -> str:
    """Counts the sizes at which an image has (W // 32) (H // 32) tokens, of multiples of 32 that need no resizing."""
    model = _encoder(material, "vl")
    family = encoder_family(model.entry["family"])
    facts = family.read_facts(*encoder_folders(model.entry, model.folder))
    sizes = [
        (width, height)
        for width in range(32, 1025, 32)
        for height in range(32, 1025, 32)
        if facts.min_pixels <= width * height <= facts.max_pixels
    ]
    right = sum(
        family.image_tokens(facts, width, height) == (width // 32) * (height // 32) for width, height in sizes
    )
    return f"{right} of {len(sizes)} sizes"


def _all_of_all(found: str) -> bool:
    right, _, rest = found.partition(" of ")
    return right == rest.partition(" ")[0]


def _cells_of_variants(material: Material) -> str:
    design = material.designs["variants"]
    cells = sum(cell.role == "cell" for cell in design.cells)
    pages = math.prod(len(axis.values) for axis in design.axes if axis.name in ("encoder", "prompt"))
    return f"{cells} images and {pages} grids"


_SHAPES = {
    17: ("hidden_size", "2560"),
    18: ("num_hidden_layers", "36"),
    19: ("num_attention_heads", "32"),
    20: ("head_dim", "128"),
    21: ("num_key_value_heads", "8"),
    22: ("intermediate_size", "9728"),
    24: ("vocab_size", "151936"),
}
CLAIMS = (
    *(
        Claim(
            CONFIGS,
            line,
            f"{name} of the {what}",
            value,
            _config(role, name),
            near(float(value), 0.0),
        )
        for line, (name, value) in _SHAPES.items()
        for role, what in (("text", "text encoder"), ("vl", "vision-language model"))
    ),
    Claim(
        CONFIGS,
        30,
        "rope_theta of the text encoder",
        "1,000,000",
        _config("text", "rope_theta"),
        near(1e6, 0.0),
    ),
    Claim(
        CONFIGS,
        30,
        "rope_theta of the vision-language model",
        "5,000,000",
        _config("vl", "rope_theta"),
        near(5e6, 0.0),
    ),
    Claim(
        CONFIGS,
        33,
        "mrope_section",
        "[24, 20, 20]",
        _config("vl", "mrope_section"),
        lambda found: found == [24, 20, 20],
    ),
    Claim(
        CONFIGS,
        141,
        "patch_size of the vision tower",
        "16",
        _config("vl", "vision_config", "patch_size"),
        near(16, 0.0),
    ),
    Claim(
        CONFIGS,
        142,
        "spatial_merge_size",
        "2",
        _config("vl", "vision_config", "spatial_merge_size"),
        near(2, 0.0),
    ),
    Claim(
        CONFIGS,
        143,
        "depth of the vision tower",
        "24",
        _config("vl", "vision_config", "depth"),
        near(24, 0.0),
    ),
    Claim(
        CONFIGS,
        144,
        "deepstack_visual_indexes",
        "[5, 11, 17]",
        _config("vl", "vision_config", "deepstack_visual_indexes"),
        lambda found: found == [5, 11, 17],
    ),
    Claim(
        CONFIGS,
        148,
        "an image of W x H pixels is (W // 32) (H // 32) tokens",
        "always",
        _token_arithmetic,
        _all_of_all,
        is_of_checkpoint=False,
    ),
    Claim(
        CONFIGS,
        60,
        "correlation of standard deviations, text tokens against the text encoder, layer -2",
        "0.999",
        _comparison("vl", -2, "prompt", "pearson_std"),
        near(0.999, 0.001),
    ),
    Claim(
        CONFIGS,
        61,
        "correlation of standard deviations, image tokens against the text encoder, layer -2",
        "0.737",
        _comparison("vl", -2, "image", "pearson_std"),
        near(0.737, 0.02),
    ),
    Claim(
        CONFIGS,
        69,
        "largest factor between standard deviations, image tokens, layer -2",
        "617.9",
        _worst_factor(-2),
        near(617.9, 0.1),
    ),
    Claim(
        README,
        93,
        "largest factor between standard deviations, text tokens against the text encoder, layer -2",
        "3.42",
        _worst_factor(-2, "prompt"),
        near(3.42, 0.1),
    ),
    Claim(
        README,
        84,
        "standard deviation of all values, text encoder, layer -2",
        "61.1",
        _overall_std("text", "all"),
        near(61.1, 0.1),
    ),
    Claim(
        README,
        86,
        "standard deviation of all values, image tokens, layer -2",
        "7.0",
        _overall_std("vl", "image"),
        near(7.0, 0.1),
    ),
    Claim(
        VARIANTS,
        60,
        "images of the comparison of Instruct and Thinking: 18 for each of 2 models and 2 prompts, and grids",
        "76",
        _cells_of_variants,
        lambda found: found == "72 images and 4 grids",
        is_of_checkpoint=False,
        command="-n results/variants/cells.csv",
    ),
    Claim(
        EMBEDDING,
        18,
        "cosine of all values of the prompt's tokens, embedding model against the text encoder, layer -2",
        "0.98",
        # The embedding model has one token more at the end: those of the prompt have a partner each.
        _comparison("embedding-chat", -2, "prompt", "flattened_cosine"),
        near(0.98, 0.01),
    ),
    Claim(
        EMBEDDING,
        105,
        "outlier dimensions of the embedding model (expected, not measured, in the document)",
        "50 to 200",
        _count("outlier"),
        lambda found: 50 <= found <= 200,
    ),
    Claim(
        EMBEDDING,
        106,
        "hyperactive dimensions in the embedding model alone (expected)",
        "20 to 100",
        _count("hyperactive"),
        lambda found: 20 <= found <= 100,
    ),
    Claim(
        EMBEDDING,
        107,
        "correlation of standard deviations, embedding model against the text encoder (expected)",
        "0.7 to 0.8",
        _comparison("embedding", -2, "all", "pearson_std"),
        lambda found: 0.65 <= found <= 0.85,
    ),
)

register(
    Study(
        "claims",
        "What is claimed elsewhere, and what is measured here",
        "Documents of an earlier project on the same question give numbers. Which of them can be measured again, and do they hold?",
        write,
        designs=("variants",),
        analyses=(ANALYSIS,),
        models=True,
    )
)
