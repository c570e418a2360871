"""Documentation that is generated from the one definition of the configuration: JSON schemas and tables.

`config/README.md` is written by hand but for the parts between `<!-- generated: NAME -->` and `<!-- end -->`.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from graftwork.core.parameters import GivenText, Instruct
from graftwork.design.analyses import (
    Analysis,
    AnalysisEncoder,
    AnalysisOptions,
    Comparison,
    Side,
)
from graftwork.design.corpora import Corpus
from graftwork.design.examples import EXPERIMENT, experiment_text
from graftwork.design.parameters import NEUTRAL
from graftwork.design.schema import (
    Base,
    CellParameters,
    EncodingParameters,
    Experiment,
    Grid,
    NamedPrompt,
    Range,
    SamplingParameters,
    SourceParameters,
    TransformChoices,
)
from graftwork.design.settings import EncoderEntry, GeneratorEntry, Models, Settings
from graftwork.scores.registry import scores
from graftwork.transforms.reference_choice import CorpusStatistics, FileStatistics
from graftwork.transforms.registry import STAGES, transforms
from graftwork.transforms.schedules import AlphaSchedule

README = "config/README.md"
SCHEMAS = {
    "config": Settings,
    "models": Models,
    "experiment": Experiment,
    "corpus": Corpus,
    "statistics": Analysis,
}
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_PART = re.compile(r"(<!-- generated: (?P<name>[a-z_]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def find_drift(root: Path) -> list[str]:
    """Returns what is not as generated, one line each.

    Args:
        root: Of the repository.

    Raises:
        ValueError: where the README lacks a part that is generated, or has an unknown one.
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
            lines.append(f"{name} differs from what its definition says, first in line {first}")
    return lines


def generated_files(root: Path) -> dict[str, str]:
    """Returns path -> content of the schemas, of the README with its tables made anew, and of the example experiment."""
    files = {f"config/schema/{name}.schema.json": schema_text(model) for name, model in SCHEMAS.items()}
    text = (root / README).read_text(encoding="utf-8")
    tables = generated_tables()
    named = [match["name"] for match in _PART.finditer(text)]
    if sorted(named) != sorted(tables):
        raise ValueError(
            f"{README} has the generated parts {', '.join(sorted(named)) or 'none'}; it should have each of "
            f"{', '.join(sorted(tables))} once"
        )
    files[README] = _PART.sub(lambda match: match[1] + tables[match["name"]] + match[3], text)
    files[EXPERIMENT] = experiment_text(root)
    return files


def schema_text(model: type[BaseModel]) -> str:
    """Returns a model's JSON schema, for editors that check YAML files."""
    return json.dumps({"$schema": _DIALECT, **model.model_json_schema()}, indent=2, ensure_ascii=False) + "\n"


def generated_tables() -> dict[str, str]:
    """Returns the tables of the README by name, as Markdown."""
    own = [name for name in Base.model_fields if name not in CellParameters.model_fields]
    groups = [TransformChoices, SourceParameters, EncodingParameters, SamplingParameters]
    inherited = {name for group in groups for name in group.model_fields}
    general = [name for name in CellParameters.model_fields if name not in inherited]
    return {
        "settings": _parameter_table(_rows(Settings)),
        "encoders": _parameter_table(_rows(EncoderEntry)),
        "generators": _parameter_table(_rows(GeneratorEntry)),
        "experiment": _parameter_table(_rows(Experiment)),
        "grid": _parameter_table(_rows(Grid)),
        "range": _parameter_table(_rows(Range)),
        "base": _parameter_table(_rows(Base, only=[*own, *general])),
        "source": _parameter_table(_rows(Base, only=SourceParameters.model_fields)),
        "encoding": _parameter_table(_rows(Base, only=EncodingParameters.model_fields)),
        "choices": _parameter_table(_rows(Base, only=TransformChoices.model_fields)),
        "sampling": _parameter_table(_rows(Base, only=SamplingParameters.model_fields)),
        "schedule": _parameter_table(_rows(AlphaSchedule)),
        "transforms": _transform_table(),
        "corpus_statistics": _parameter_table(_rows(CorpusStatistics)),
        "file_statistics": _parameter_table(_rows(FileStatistics)),
        "corpus": _parameter_table(_rows(Corpus)),
        "analysis": _parameter_table(_rows(Analysis)),
        "analysis_encoder": _parameter_table(_rows(AnalysisEncoder)),
        "scores": _table(
            ("name", "measures", "needs"), ((f"`{s.name}`", s.meaning, s.needs) for s in scores().values())
        ),
    }


def _rows(
    model: type[BaseModel], prefix: str = "", only: Iterable[str] | None = None
) -> Iterator[tuple[str, ...]]:
    """Yields (key, type, default, description); sections of the settings are written with dots."""
    schema = model.model_json_schema()
    for name in only if only is not None else model.model_fields:
        info = model.model_fields[name]
        is_section = isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
        if is_section and not info.is_required():
            yield from _rows(info.annotation, f"{prefix}{name}.")
        else:
            kind = describe_type(schema["properties"][name], schema.get("$defs", {}))
            yield f"`{prefix}{name}`", kind, _default(info), info.description or ""


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True)
    return "none" if value is None else f"`{json.dumps(value, ensure_ascii=False)}`"


def describe_type(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Returns the type that a JSON schema describes, in words."""
    if "$ref" in schema:
        return _describe_reference(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(describe_type(part, definitions) for part in schema["anyOf"])
    if "const" in schema:
        return f"`{schema['const'] if isinstance(schema['const'], str) else json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(
            f"`{value if isinstance(value, str) else json.dumps(value)}`" for value in schema["enum"]
        )
    kind = schema.get("type")
    if kind == "array":
        items = schema.get("items") or {}
        size = f" of {schema['minItems']}" if schema.get("minItems") == schema.get("maxItems", 0) else ""
        of = f": {describe_type(items, definitions)}" if items else ""
        return f"list{size}{of}"
    if kind == "object":
        values = schema.get("additionalProperties")
        return (
            f"mapping of names to {describe_type(values, definitions)}"
            if values not in (True, None)
            else "mapping"
        )
    words = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true` or `false`"}
    return words.get(str(kind), "`null`" if kind == "null" else "anything") + _bounds(schema)


def _describe_reference(name: str) -> str:
    named = {
        NamedPrompt.__name__: "{`name`, `text`}",
        Range.__name__: "{`range`, `count`}",
        Grid.__name__: "{`x`, `y`}",
        GivenText.__name__: "{`text`}",
        Instruct.__name__: "{`instruct`}",
        AlphaSchedule.__name__: "{`kind`, ...}",
        "StatisticsChoice": "`prompt`, {`corpus`, ...} or {`npz`, ...}",
        Comparison.__name__: "{`a`, `b`}",
        Side.__name__: "{`encoder`, `hidden_layer`, `tokens`}",
        AnalysisOptions.__name__: "{`prompt_format`, ...}",
    }
    return named.get(name, "see below")


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


def _transform_table() -> str:
    rows = []
    for stage in STAGES:
        for entry in transforms(stage).values():
            parameters = ", ".join(
                f"`{name}`" for name in (entry.parameters.model_fields if entry.parameters else ())
            )
            # The transform itself where a cell's name leaves it out, and those of its parameters that a name leaves out.
            own = {stage: entry.name} if NEUTRAL.get(stage) == entry.name else {}
            neutral = ", ".join(
                f"`{name}: {value if isinstance(value, str) else json.dumps(value)}`"
                for name, value in {**own, **entry.neutral}.items()
            )
            rows.append((f"`{stage}`", f"`{entry.name}`", entry.formula, entry.source, parameters, neutral))
    return _table(("stage", "name", "formula", "from", "parameters", "neutral"), rows)


def _table(heading: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heading = list(heading)
    lines = [heading, ["---"] * len(heading), *rows]
    escaped = (" | ".join(cell.replace("|", r"\|") for cell in line) for line in lines)
    return "".join(f"| {line} |\n" for line in escaped)
