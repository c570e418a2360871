"""Whether the models that a configuration needs are here and fit this machine, and downloading what is missing."""

import math
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graftwork.core.errors import DesignError
from graftwork.core.progress import Progress, format_bytes
from graftwork.design.needed import ENCODER, GENERATOR, NeededModel, NeededModels
from graftwork.design.project import Project
from graftwork.models.cards import Card, cuda_of_torch, driver_problem, find_cards
from graftwork.models.catalog import Model
from graftwork.models.description import (
    hub_cache_folder,
    hub_source,
    locate_model,
    missing_files,
    model_files,
    model_folders,
    other_revisions,
    weight_files,
)
from graftwork.models.families import EncoderFacts, family_of
from graftwork.models.hub import HubSource, download, hub_sources, list_files, missing_sizes, read_licence
from graftwork.models.weights import read_shapes

_SECONDS_BETWEEN_LINES = 0.5
_BYTES = {"float32": 4, "bfloat16": 2}
_BYTES_PER_MB = 10**6
# The driver and the libraries keep some of a card.
_USABLE = 0.97


@dataclass
class Check:
    """What was found.

    Attributes:
        lines: models that are there with their sizes, to be shown.
        problems: reasons for which a run cannot work, each with its remedy.
        missing: Sources with files that the cache lacks.
    """

    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    missing: list[HubSource] = field(default_factory=list)


def check_models(project: Project) -> Check:
    """Looks at what the models of a configuration need: files, licences, classes, widths, disk, cards and their driver.

    The hub is asked for the sizes of files that are missing; nothing is downloaded.
    """
    needed = project.needed_models()
    check = Check()
    here: dict[tuple[str, str], Model] = {}
    for model in needed.models:
        try:
            found = here[model.kind, model.name] = project.models.get(
                model.kind, model.name, model.wanted_by[0]
            )
            problem = _describe(model, found, check)
        except DesignError as error:
            problem = str(error)
            check.lines.append(f"{model.kind} {model.name}: {_origin(model)}: not usable, see below")
        check.problems += [problem] if problem else []
    check.missing = [source for source in _sources(needed) if _lacks(source, needed)]
    check.problems += _width_problems(needed, here)
    _check_disk(check)
    _check_cards(project, needed, check)
    return check


def download_models(project: Project, say: Callable[[str], None]) -> None:
    """Downloads what the cache lacks, after saying how much that is; files that were begun are continued.

    Args:
        project: Its experiments and analyses decide what is needed.
        say: Called with each line for the terminal.

    Raises:
        RuntimeError: where the hub does not answer, the disk is too small, or what came is not complete.
    """
    needed = project.needed_models()
    wanted = {source: list_files(source) for source in _sources(needed) if _lacks(source, needed)}
    if not wanted:
        say(f"the {len(needed.models)} models that are needed are here, nothing to download")
        return
    missing = {source: missing_sizes(source, listing) for source, listing in wanted.items()}
    total = sum(sum(sizes.values()) for sizes in missing.values())
    cache, free = hub_cache_folder(), _free_bytes(hub_cache_folder())
    for source, sizes in missing.items():
        say(f"{source.repo} at {source.revision}: {len(sizes)} files, {format_bytes(sum(sizes.values()))}")
    say(f"downloading {format_bytes(total)} to {cache}, where {format_bytes(free)} are free")
    if total > free:
        raise RuntimeError(
            f"{format_bytes(total)} do not fit into the {format_bytes(free)} that are free in {cache}; make room, or set "
            "HF_HUB_CACHE to another folder"
        )
    megabytes = _Megabytes(total)
    for source, listing in wanted.items():
        say(f"{source.repo} is in {download(source, listing, megabytes.add)}")
    lacking = [source.repo for source in wanted if _lacks(source, needed)]
    if lacking:
        raise RuntimeError(
            f"{', '.join(lacking)}: the commit lacks files that its index of weights names; set repo and revision in "
            f"{project.settings.models} to a complete model"
        )


class _Megabytes:
    """Turns bytes that several threads count into lines of progress, two a second at most."""

    def __init__(self, total: int):
        self._progress = Progress("MB downloaded", max(math.ceil(total / _BYTES_PER_MB), 1))
        self._total, self._bytes, self._shown = total, 0, 0
        self._lock, self._last = threading.Lock(), 0.0

    def add(self, number: int) -> None:
        """Counts bytes."""
        with self._lock:
            self._bytes += number
            now, is_over = time.monotonic(), self._bytes >= self._total
            counted = math.ceil(self._bytes / _BYTES_PER_MB) if is_over else self._bytes // _BYTES_PER_MB
            if counted > self._shown and (is_over or now - self._last >= _SECONDS_BETWEEN_LINES):
                self._progress.advance(counted - self._shown)
                self._shown, self._last = counted, now


def _sources(needed: NeededModels) -> list[HubSource]:
    return hub_sources([(model.kind, model.name, model.entry) for model in needed.models])


def _lacks(source: HubSource, needed: NeededModels) -> bool:
    """Whether the cache lacks files of a model that is in this source."""
    for model in needed.models:
        if model.entry.get("path") or hub_source(model.name, model.entry) != (source.repo, source.revision):
            continue
        folder = locate_model(model.name, model.entry)
        if folder is None or missing_files(model.entry, model.kind, folder):
            return True
    return False


def _origin(model: NeededModel) -> str:
    entry = model.entry
    return str(entry.get("path") or f"{entry.get('repo')} at {entry.get('revision')}")


def _describe(model: NeededModel, found: Model, check: Check) -> str | None:
    """Adds the line of a model that is known; returns what is wrong with it, or None."""
    folder = locate_model(model.name, model.entry)
    missing = missing_files(model.entry, model.kind, folder) if folder else ["its folder"]
    if folder is None or missing:
        return (
            f"{model.kind} {model.name}: {_origin(model)} was here before, but lacks {', '.join(missing)} now"
        )
    size = sum((folder / file).stat().st_size for file in model_files(model.entry, model.kind, folder))
    facts = found.facts
    if isinstance(facts, EncoderFacts):
        shape = f"{facts.num_hidden_layers} layers of width {facts.hidden_size}"
    else:
        shape = f"takes up to {facts.max_caption_tokens} tokens of width {facts.caption_channels}"
    licence = read_licence(folder) or "not known, there is no model card beside it"
    check.lines.append(
        f"{model.kind} {model.name}: {_origin(model)}, in {folder}, {format_bytes(size)}, complete; family "
        f"{facts.family}, {shape}; licence {licence}"
    )
    return None


def _width_problems(needed: NeededModels, here: Mapping[tuple[str, str], Model]) -> Iterator[str]:
    for encoder, generator in needed.pairs:
        one, other = here.get((ENCODER, encoder)), here.get((GENERATOR, generator))
        if one and other and one.facts.hidden_size != other.facts.caption_channels:
            yield (
                f"encoder {encoder} has hidden states of width {one.facts.hidden_size}, but generator {generator} takes "
                f"{other.facts.caption_channels}; choose an encoder of that width"
            )


def _check_disk(check: Check) -> None:
    """Says how much is to be downloaded, how much is free, and how to get it."""
    cache, total, is_known = hub_cache_folder(), 0, True
    for source in check.missing:
        others = other_revisions(source.folder)
        kept = f" (the cache has {', '.join(others)})" if others else ""
        try:
            listing = list_files(source)
        except RuntimeError as error:
            is_known = False
            check.lines.append(
                f"missing: {source.repo} at {source.revision}{kept}; size not known, for the hub gave no answer: {error}"
            )
            continue
        sizes = missing_sizes(source, listing)
        total += sum(sizes.values())
        check.lines.append(
            f"missing: {source.repo} at {source.revision}{kept}: {len(sizes)} of {len(listing.sizes)} files, "
            f"{format_bytes(sum(sizes.values()))}; licence {listing.licence or 'not known'}"
        )
    free = _free_bytes(cache)
    amount = f"{format_bytes(total)} to download" if is_known else "size of the download not known"
    check.lines.append(f"disk: {amount}, {format_bytes(free)} free in {cache}")
    if total > free:
        check.problems.append(
            f"{format_bytes(total)} do not fit into the {format_bytes(free)} that are free in {cache}; make room, or set "
            "HF_HUB_CACHE to another folder"
        )
    if check.missing:
        commands = "".join(f"\n  {source.command}" for source in check.missing)
        check.problems.append(
            f"models are missing: ask for the target `download_models`, or by hand{commands}"
        )


def _free_bytes(folder: Path) -> int:
    """Returns what is free where a folder is, or will be."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    return shutil.disk_usage(there).free


def _check_cards(project: Project, needed: NeededModels, check: Check) -> None:
    hardware = project.settings.hardware
    if "cuda" not in (hardware.extraction.device, hardware.generation.device):
        check.lines.append("card: none is used, both steps run on the CPU")
        return
    cards, cuda = find_cards(), cuda_of_torch()
    if cuda is None or not cards:
        why = "no card is found (nvidia-smi)" if cuda else "this torch is a build without CUDA"
        check.problems.append(
            f"device cuda is asked for, but {why}; run `make setup LOCK=cuda` on a machine with a card, or set hardware.preset "
            "in config/config.yaml to cpu"
        )
        return
    for card in dict.fromkeys(cards):
        problem = driver_problem(card, cuda)
        check.problems += [problem] if problem else []
        check.lines.append(
            f"card: {card.name}, {format_bytes(card.memory)}, driver {card.driver}, torch for CUDA {cuda}"
        )
    smallest = min(cards, key=lambda card: card.memory)
    for model in needed.models:
        folder = locate_model(model.name, model.entry)
        if model.kind == GENERATOR and folder and not missing_files(model.entry, model.kind, folder):
            _check_memory(hardware.generation.model_dump(), model, folder, (needed.sizes, smallest), check)


def _check_memory(
    hardware: Mapping[str, Any],
    model: NeededModel,
    folder: Path,
    asked: tuple[Sequence[tuple[int, int]], Card],
    check: Check,
) -> None:
    """Compares what the largest batch of a generator takes with the memory of a card."""
    sizes, card = asked
    batch_bytes = family_of(GENERATOR, model.entry, model.name).batch_bytes
    weights = _weight_bytes(model, folder, hardware["dtype"])
    rows = hardware["batch_shape"]
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    batch = f"{rows} rows of {width} x {height} pixels"
    if batch_bytes is None:
        check.lines.append(
            f"memory: weights of {model.name} {format_bytes(weights)}; what {batch} take was not measured"
        )
        return
    needs = {count: weights + batch_bytes(hardware, count, width * height) for count in range(1, rows + 1)}
    check.lines.append(
        f"memory: {model.name} with {batch} takes about {format_bytes(needs[rows])} of {format_bytes(card.memory)}"
    )
    fitting = [count for count, need in needs.items() if need <= card.memory * _USABLE]
    if rows not in fitting:
        remedy = (
            f"set hardware.generation.batch_shape to {max(fitting)}"
            if fitting
            else "set hardware.generation.vae_slicing: true, or take smaller images"
        )
        check.problems.append(
            f"{batch} of {model.name} take about {format_bytes(needs[rows])}, more than {card.name} has "
            f"({format_bytes(card.memory)}); {remedy}"
        )


def _weight_bytes(model: NeededModel, folder: Path, dtype: str) -> int:
    """Returns what the weights of a generator take once they are loaded."""
    files = [
        file
        for part in model_folders(model.entry, model.kind)
        if part.has_weights
        for file in weight_files(folder / part.folder)
    ]
    return sum(math.prod(shape) for file in files for shape in read_shapes(file).values()) * _BYTES[dtype]
