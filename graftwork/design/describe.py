"""Documentation that is generated from the definition of the configuration: JSON schemas and docs/reference.md.

The text of the reference comes from the descriptions of the models' fields and from the registries of transforms and
scores. Only headings and the sentences under them are written here.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from graftwork.core.shipped import HOME
from graftwork.design.analyses import Analysis, AnalysisEncoder, ComparisonEntry, SideEntry
from graftwork.design.corpora import Corpus
from graftwork.design.examples import EXPERIMENT, experiment_text
from graftwork.design.maps import Maps, MapStudy
from graftwork.design.schema import (
    Base,
    CellParameters,
    EncodingParameters,
    Experiment,
    Grid,
    Range,
    SamplingParameters,
    SourceParameters,
    TransformChoices,
)
from graftwork.design.settings import (
    EncoderEntry,
    GeneratorEntry,
    HardwarePreset,
    Models,
    ScorerEntry,
    Settings,
)
from graftwork.maps.registry import methods
from graftwork.scores.registry import scores
from graftwork.transforms.context import NEEDS
from graftwork.transforms.reference_choice import CorpusStatistics, FileStatistics
from graftwork.transforms.registry import STAGES, transforms
from graftwork.transforms.schedules import AlphaSchedule
from graftwork.transforms.vector_choice import ContrastVector, FileVector

# How the scorers of the miniature agree with its scene reader, as the rule calibrate_miniature measured it.
_CALIBRATION = "resources/miniature/calibration.json"
REFERENCE = "docs/reference.md"
SCHEMAS = {
    "config": Settings,
    "hardware": HardwarePreset,
    "models": Models,
    "experiment": Experiment,
    "corpus": Corpus,
    "statistics": Analysis,
    "maps": Maps,
}
_DIALECT = "https://json-schema.org/draft/2020-12/schema"

_INTRODUCTION = """\
# Reference

Every key of every configuration file, every transform and every score. This page is generated from the code
(`python -m workflow_scripts.describe_config --fix`); a test fails where it differs. How to use these keys is in the
[guide](guide.md).

| file | defines |
| --- | --- |
| `config/config.yaml` | [what to build, defaults, hardware, limits](#configyaml) |
| `config/hardware/*.yaml` | [hardware settings by name](#hardware-presets) |
| `config/models.yaml` | [encoders and generators by name](#modelsyaml) |
| `config/experiments/*.yaml` | [one experiment each](#experiments) |
| `config/prompts/*.yaml` | prompts that experiments share: a list of texts, or a mapping of names to texts |
| `config/references/` | your reference images; more are in `resources/references/` |
| `config/corpora/*.yaml` | [prompts and references that statistics are measured on](#corpora) |
| `config/statistics/*.yaml` | [analyses: statistics of encoders over a corpus, compared](#analyses) |
| `config/maps/*.yaml` | [maps between encoders, fitted on a corpus](#maps) |
| `config/schema/*.json` | JSON schemas of these files, for editors |

Unknown keys and wrong types are errors that name the file, the key and what is allowed. `{a, b}` in the column *value* is a
mapping with these keys.
"""
_TRANSFORMS = """\
Transforms run in the order of the sections below. The key of a section chooses one transform by name. Parameters of
transforms are keys of their own; a parameter of a transform that is not chosen has no effect.
Everything is computed in float32 on the CPU, and cast to the generator's dtype at the end.

Symbols in the formulas: `x` selected tokens of the encoder; `n` number of tokens of the text; `m` number of tokens of the
source; `t` hidden states of the text; `v` the source after length matching; `i` index of a token. `x_d` is dimension d of
`x`, `s_d` its standard deviation over tokens (ddof 1), `r_mean_d` and `r_std_d` mean and standard deviation of the
reference, and `q_d = s_d / r_std_d`. For a dimension fix, `e_` is measured on the encoder and `h_` on the generator's text
encoder, over the corpus.

The *neutral* value of a parameter is left out of a cell's id: it gives what a cell without the parameter gives.

*llm-dit-experiments* in the column *source* is <https://github.com/fblissjr/llm-dit-experiments>.
"""


def find_drift(root: Path) -> list[str]:
    """Returns a line for each generated file that is missing or differs.

    Args:
        root: root of the repository.
    """
    lines = []
    for name, expected in generated_files(root).items():
        path = root / name
        found = path.read_text(encoding="utf-8") if path.is_file() else None
        if found is None:
            lines.append(f"{name} is missing")
        elif found != expected:
            numbered = enumerate(zip(found.split("\n"), expected.split("\n"), strict=False), start=1)
            first = next((n for n, (one, other) in numbered if one != other), "last")
            lines.append(f"{name} differs from the definitions, first in line {first}")
    return lines


def generated_files(root: Path) -> dict[str, str]:
    """Returns path -> content of the JSON schemas, of the reference, and of the experiment that shows every transform.

    Args:
        root: root of the repository.
    """
    files = {f"config/schema/{name}.schema.json": schema_text(model) for name, model in SCHEMAS.items()}
    files[REFERENCE] = reference_text()
    files[EXPERIMENT] = experiment_text(root)
    return files


def schema_text(model: type[BaseModel]) -> str:
    """Returns a model's JSON schema, for editors that check YAML files."""
    return json.dumps({"$schema": _DIALECT, **model.model_json_schema()}, indent=2, ensure_ascii=False) + "\n"


def reference_text() -> str:
    """Returns docs/reference.md."""
    parts = [
        _INTRODUCTION,
        *_experiment_sections(),
        *_transform_sections(),
        *_score_sections(),
        *_model_section(
            "## Corpora", "A file in `config/corpora/`; its name is the name of the corpus.", Corpus
        ),
        *_analysis_sections(),
        *_map_sections(),
        *_model_section("## config.yaml", "What to build and on which hardware.", Settings),
        *_model_section(
            "## Hardware presets",
            "A file in `config/hardware/`; its name is a value of `hardware.preset`. The other keys are those of `hardware`.",
            HardwarePreset,
        ),
        "## models.yaml",
        "A model is a local folder (`path`) or a hub repository at a commit (`repo` and `revision`).",
        *_model_section("### `encoders`", "", EncoderEntry),
        *_model_section(
            "### `generators`",
            "A generator is a complete diffusers pipeline. Its text encoder is an entry of `encoders`.",
            GeneratorEntry,
        ),
        *_model_section(
            "### `scorers`", "What images are measured with, see [scores.md](scores.md).", ScorerEntry
        ),
    ]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _experiment_sections() -> Iterator[str]:
    yield from _model_section(
        "## Experiments",
        "A file in `config/experiments/`; its name is the name of the experiment.",
        Experiment,
    )
    yield from _model_section(
        "### `grids`", "One grid. It has a page for every combination of the other axes.", Grid
    )
    yield from _model_section("### Ranges", "An axis is a list of values, or a range of numbers.", Range)
    yield "## Parameters"
    yield (
        "Keys of `base`. Every key except `prompts`, `references` and `seeds` can also stand in `axes` and `settings`. Axes "
        "over prompts, references and seeds are called `prompt`, `reference` and `seed`. A key that is not given takes its "
        "value from `defaults` in `config/config.yaml`, then from the table."
    )
    groups: dict[str, type[BaseModel]] = {
        "### Source": SourceParameters,
        "### Encoding": EncodingParameters,
        "### Sampling": SamplingParameters,
    }
    inherited = {name for group in (*groups.values(), TransformChoices) for name in group.model_fields}
    own = [name for name in Base.model_fields if name not in CellParameters.model_fields]
    general = [name for name in CellParameters.model_fields if name not in inherited]
    yield "### Inputs"
    yield _parameter_table(_rows(Base, only=[*own, *general]))
    for heading, group in groups.items():
        yield heading
        yield _parameter_table(_rows(Base, only=group.model_fields))
    yield from _model_section("### Schedules", "Keys of `alpha_schedule`.", AlphaSchedule)
    yield from _model_section(
        "### Statistics of a corpus", "`statistics: {corpus: name}`, with these keys:", CorpusStatistics
    )
    yield from _model_section(
        "### Statistics from a file", "`statistics: {npz: path}`, with these keys:", FileStatistics
    )
    yield from _model_section(
        "### Vectors from a file", "`vector: {file: path}`, with these keys:", FileVector
    )
    yield from _model_section(
        "### Vectors from prompts",
        "`vector: {towards: prompts, away_from: prompts}`, with these keys:",
        ContrastVector,
    )


def _transform_sections() -> Iterator[str]:
    yield "## Transforms"
    yield _TRANSFORMS
    for stage in STAGES.values():
        yield f"### `{stage.name}`"
        yield f"{stage.meaning} The default is `{stage.default}`."
        yield _table(("name", "formula", "source", "needs"), _transform_rows(stage.name))
        yield _parameter_table_of(stage.name)
        for entry in transforms(stage.name).values():
            if entry.is_mapping:
                yield f"`{{{entry.name}: ...}}` is a mapping with these keys:"
                yield _parameter_table(_rows(entry.parameters))


def _transform_rows(stage: str) -> Iterator[tuple[str, ...]]:
    for entry in transforms(stage).values():
        needs = (NEEDS[need] for need in entry.needs)
        yield f"`{entry.name}`", entry.formula, entry.source, "; ".join(needs)


def _parameter_table_of(stage: str) -> str:
    """Returns the table of the parameters of a stage's transforms; empty where they have none."""
    users: dict[str, list[str]] = {}
    neutral: dict[str, Any] = {}
    for entry in transforms(stage).values():
        for name in entry.defaults if not entry.is_mapping else ():
            users.setdefault(name, []).append(entry.name)
        neutral |= entry.neutral
    if not users:
        return ""
    rows = (
        (key, ", ".join(f"`{user}`" for user in users[name]), kind, default, _value(neutral[name]), meaning)
        for name, (key, kind, default, meaning) in zip(users, _rows(Base, only=users), strict=True)
    )
    return _table(("parameter", "of", "value", "default", "neutral", "meaning"), rows)


def _score_sections() -> Iterator[str]:
    yield "## Scores"
    yield "Names for `scores` of an experiment. The columns are those of `scores.csv`."
    for score in scores().values():
        yield f"### `{score.name}`"
        yield score.meaning
        yield f"*Needs:* {score.needs}"
        columns = (
            (
                f"`{column.name}`",
                column.label,
                column.unit,
            )
            for column in score.columns
        )
        yield _table(("column", "meaning", "unit"), columns)
        yield from _agreement({column.name for column in score.columns})


def _agreement(columns: set[str]) -> Iterator[str]:
    """Yields how columns agree with the scene reader of the miniature, as far as that was measured."""
    found = json.loads((HOME / _CALIBRATION).read_text(encoding="utf-8"))["agreements"]
    rows = [
        (
            f"`{one['column']}`",
            one["claim"],
            f"{one['level']:g}",
            f"{one['have']} of {one['images']}",
            "" if one["auc"] is None else f"{one['auc']:.2f}",
            "" if one["low"] is None else f"{one['low']:.2f} to {one['high']:.2f}",
            one["verdict"],
        )
        for one in found
        if one["column"] in columns
    ]
    if rows:
        yield (
            "How often it puts an image of the miniature that has something before one that has not, by the scene reader, with a "
            "pattern of so many grey levels planted ([scores.md](scores.md#agreement-with-the-scene-reader)):"
        )
        yield _table(("column", "an image", "grey levels", "images", "AUC", "95 % interval", "verdict"), rows)


def _analysis_sections() -> Iterator[str]:
    yield from _model_section(
        "## Analyses", "A file in `config/statistics/`; its name is the name of the analysis.", Analysis
    )
    yield from _model_section("### Encoders of an analysis", "An item of `encoders`.", AnalysisEncoder)
    yield from _model_section("### Comparisons", "An item of `comparisons`.", ComparisonEntry)
    yield from _model_section("### Sides of a comparison", "`a` and `b`.", SideEntry)


def _map_sections() -> Iterator[str]:
    yield from _model_section("## Maps", "A file in `config/maps/`; its name is the name of the maps.", Maps)
    yield from _model_section(
        "### `study` of maps", "Measurements for the report of the target `maps`.", MapStudy
    )
    yield "### Methods of maps"
    yield (
        "Items of `methods`: {`method`: one of these, and its parameters}. States are normalized as the file says. `W` and `b` are "
        "fitted with x and y standardized. Controls are there to be compared with."
    )
    rows = (
        (f"`{one.name}`", one.formula, one.source, "yes" if one.is_control else "")
        for one in methods().values()
    )
    yield _table(("method", "formula", "source", "control"), rows)
    for one in methods().values():
        if one.parameters.model_fields:
            yield f"Parameters of `{one.name}`:"
            yield _parameter_table(_rows(one.parameters))


def _model_section(heading: str, introduction: str, model: type[BaseModel]) -> Iterator[str]:
    yield heading
    yield introduction
    yield _parameter_table(_rows(model))


def _rows(
    model: type[BaseModel], prefix: str = "", only: Iterable[str] | None = None
) -> Iterator[tuple[str, str, str, str]]:
    """Yields (key, type, default, description); keys of optional sections are written with dots."""
    schema = model.model_json_schema()
    for name in only if only is not None else model.model_fields:
        info = model.model_fields[name]
        is_section = isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
        if is_section and not info.is_required():
            yield from _rows(info.annotation, f"{prefix}{name}.")
        else:
            kind = describe_type(schema["properties"][name], schema.get("$defs", {})) + _unit(info)
            yield f"`{prefix}{name}`", kind, _default(info), info.description or ""


def _unit(info: FieldInfo) -> str:
    """Returns the unit that a parameter declares, such as ", in pixels"."""
    units = [item.unit for item in info.metadata if getattr(item, "unit", "")]
    return f", in {units[0]}" if units else ""


def _default(info: FieldInfo) -> str:
    return "required" if info.is_required() else _value(info.get_default(call_default_factory=True))


def _value(value: Any) -> str:
    return f"`{value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)}`"


def describe_type(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Returns the type that a JSON schema describes, in words.

    Args:
        schema: schema of one value.
        definitions: the schemas that `$ref` names.
    """
    if "$ref" in schema:
        return describe_type(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return " or ".join(describe_type(part, definitions) for part in schema[choice])
    if "const" in schema:
        return _value(schema["const"])
    if "enum" in schema:
        return ", ".join(map(_value, schema["enum"]))
    if schema.get("type") == "array":
        return _describe_list(schema, definitions)
    if schema.get("type") == "object":
        return _describe_mapping(schema, definitions)
    words = {"integer": "integer", "number": "number", "string": "text", "boolean": "`true` or `false`"}
    kind = str(schema.get("type"))
    return words.get(kind, "`null`" if kind == "null" else "anything") + _bounds(schema)


def _describe_list(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    items = schema.get("items") or {}
    size = f" of {schema['minItems']}" if schema.get("minItems") == schema.get("maxItems", 0) else ""
    return f"list{size}" + (f": {describe_type(items, definitions)}" if items else "")


def _describe_mapping(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    keys = list(schema.get("properties", ()))
    if keys:
        shown = keys if len(keys) <= 3 else schema.get("required") or keys[:1]
        return "{" + ", ".join(f"`{key}`" for key in shown) + (", ...}" if len(shown) < len(keys) else "}")
    values = schema.get("additionalProperties")
    if values in (True, None):
        return "mapping"
    return f"mapping of names to {describe_type(values, definitions)}"


def _bounds(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    words = []
    if low is not None and high is not None:
        words.append(f"only {low:g}" if low == high else f"{low:g} to {high:g}")
    elif low is not None:
        words.append(f"at least {low:g}")
    if "exclusiveMinimum" in schema:
        words.append(f"above {schema['exclusiveMinimum']:g}")
    if "exclusiveMaximum" in schema:
        high = schema["exclusiveMaximum"]
        words.append("below 2^63" if high == 2**63 else f"below {high:g}")
    return f" ({', '.join(words)})" if words else ""


def _parameter_table(rows: Iterable[tuple[str, ...]]) -> str:
    return _table(("key", "value", "default", "meaning"), rows)


def _table(heading: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Returns a Markdown table; a column that is empty in every row is left out."""
    lines = [list(row) for row in rows]
    kept = [(index, name) for index, name in enumerate(heading) if any(line[index] for line in lines)]
    written = [[name for _, name in kept], ["---"] * len(kept)]
    written += [[line[index] for index, _ in kept] for line in lines]
    escaped = (" | ".join(cell.replace("|", r"\|") for cell in line) for line in written)
    return "".join(f"| {line} |\n" for line in escaped)
