"""Analyses as scopes of their own: what they plan, what they lack, and what was damaged."""

import json
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from graftwork.core.identity import digest
from graftwork.design.analyses import AnalysisDesign
from graftwork.design.project import Project
from graftwork.planning.code import extraction_code, statistics_code
from graftwork.planning.healing import count_failures, find_damaged_inputs
from graftwork.planning.inputs_plan import plan_extraction, plan_statistics
from graftwork.planning.keys import Keys
from graftwork.store.layout import Store

# A dot, which names of experiments have not.
SCOPE_PREFIX = "statistics."
PLAN = "statistics.json"
SUMMARY = "summary.md"


def resolve_analysis(design: AnalysisDesign, keys: Keys) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns what an analysis reads of the store: plain values for the job, and key -> statistics.

    Args:
        design: The analysis.
        keys: With its models and corpora.
    """
    needed, entries = {}, []
    for entry in design.entries:
        layers, inputs = [], []
        for layer in entry["hidden_layers"]:
            found = keys.statistics(design.corpus, entry["encoder"], layer, entry["options"])
            needed[found.key] = found
            layers.append({"hidden_layer": layer, "index": found.inputs[0].layer, "statistics": found.key})
            inputs = [
                {"key": need.key, "prompt": need.origin["prompt"], "reference": need.origin["reference"]}
                for need in found.inputs
            ]
        entries.append(
            {
                "name": entry["name"],
                "token_classes": entry["token_classes"],
                "layers": layers,
                "inputs": inputs,
            }
        )
    content = design.corpora[design.corpus]
    analysis = {
        "name": design.name,
        "title": design.title,
        "question": design.question,
        "corpus": {
            "name": content["name"],
            "prompts": len(content["prompts"]),
            "references": len(content["references"]),
        },
        "entries": entries,
        "comparisons": design.comparisons,
        "massive": design.massive,
    }
    return analysis, needed


def plan_analysis(
    design: AnalysisDesign, hardware: Mapping[str, Any], sharding: Mapping[str, Any], store: Store
) -> dict[str, Any]:
    """Plans extraction and statistics of an analysis, and freezes the shards.

    Returns:
        As `plan_conditioning`, without conditioning, and with `analysis`, what the job does.
    """
    keys = Keys(design.models, hardware, design.corpora)
    analysis, needed = resolve_analysis(design, keys)
    wanted: dict[str, set[int]] = defaultdict(set)
    origins: dict[str, dict[str, Any]] = {}
    for need in (need for found in needed.values() for need in found.inputs):
        wanted[need.key].add(need.layer)
        origins[need.key] = need.origin
    extraction, missing = plan_extraction(
        wanted, origins, design.models, design.references, hardware, sharding, store
    )
    statistics, missing_statistics = plan_statistics(needed, store)
    return {
        "extraction": sorted(extraction),
        "statistics": sorted(statistics),
        "hidden_states": {key: sorted(layers) for key, layers in sorted(wanted.items())},
        "statistics_keys": sorted(needed),
        "missing_hidden_states": sum(len(layers) for layers in missing.values()),
        "missing_statistics": len(missing_statistics),
        "analysis": analysis,
    }


class Analyses:
    """Answers questions about the project's analyses, each computed once."""

    def __init__(self, project: Project, store: Store):
        self._project = project
        self._hardware = project.settings.hardware.model_dump()
        self._store = store
        self.plan_digest = cache(self._plan_digest)
        for name in project.settings.statistics:
            project.analysis(name)  # Refused here, before anything runs.

    @staticmethod
    def scope_of(name: str) -> str:
        """Returns the scope that an analysis is planned in."""
        return SCOPE_PREFIX + name

    @staticmethod
    def name_of(scope: str) -> str | None:
        """Returns the analysis that a scope is of, or None for one of experiments."""
        return scope.removeprefix(SCOPE_PREFIX) if scope.startswith(SCOPE_PREFIX) else None

    def scopes(self) -> list[str]:
        """Returns the scopes of all analyses that there are files of."""
        return [self.scope_of(name) for name in self._project.analysis_names()]

    def named_scopes(self) -> list[str]:
        """Returns the scopes of those that the default target builds."""
        return [self.scope_of(name) for name in self._project.settings.statistics]

    def scope_of_target(self, target: str) -> str | None:
        """Returns the scope of an analysis that a target, a path, belongs to, or None."""
        parts = Path(target).parts
        if (
            len(parts) > 2
            and parts[:2] == ("results", "statistics")
            and parts[2] in self._project.analysis_names()
        ):
            return self.scope_of(parts[2])
        if len(parts) > 2 and parts[:2] == ("results", "plan") and parts[2] in self.scopes():
            return parts[2]
        return None

    def _plan_digest(self, name: str) -> str:
        design = self._project.analysis(name)
        families = {model["facts"]["family"] for model in design.models.values()}
        return digest(
            {
                "analysis": design.digest,
                "hardware": self._hardware,
                "code": [*sorted(map(extraction_code, families)), statistics_code()],
            }
        )

    def describe(self, name: str) -> str:
        """Returns what a run would make, without freezing anything."""
        design = self._project.analysis(name)
        _, needed = resolve_analysis(design, Keys(design.models, self._hardware, design.corpora))
        inputs = {need.key for found in needed.values() for need in found.inputs}
        absent = sum(not self._store.hidden_states(key).exists() for key in inputs)
        missing = sum(not self._store.statistics(key).exists() for key in needed)
        return (
            f"graftwork: statistics {name}: {len(needed)} layers over {len(inputs)} encoder inputs; at least {absent} "
            f"inputs to extract, {missing} layers to measure"
        )

    def find_damage(self, name: str) -> str | None:
        """Returns why what an analysis has made no longer holds, or None."""
        folder = Path("results/plan", self.scope_of(name))
        plan = _read(folder / PLAN)
        if plan is None:
            return None
        results = Path("results/statistics", name)
        listed = _read(folder / "files.json")
        gone = [file for file in listed or () if not (results / file).is_file()]
        if damage := find_damaged_inputs(plan, self._store):
            return damage
        if failed := count_failures(folder):
            return f"{failed} items failed last time"
        return f"{len(gone)} files of the analysis are missing" if gone else None

    def planned_digest(self, name: str) -> str | None:
        """Returns the digest of what the plan was made for, or None where there is none."""
        return (_read(Path("results/plan", self.scope_of(name), PLAN)) or {}).get("digest")

    def forget(self, name: str) -> None:
        """Removes a plan, the manifests of its shards, and the summary, from which all else follows."""
        folder = Path("results/plan", self.scope_of(name))
        for stage in ("hidden_states", "statistics"):
            for file in folder.glob(f"{stage}/*.json"):
                file.unlink(missing_ok=True)
        for path in (folder / PLAN, folder / "measured.txt", Path("results/statistics", name, SUMMARY)):
            path.unlink(missing_ok=True)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
