"""Measurements of fitted maps on held-out prompts: tokens, and velocities of the transformer."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graftwork.core.derived import write_derived
from graftwork.core.progress import Progress
from graftwork.core.tables import Row, write_table
from graftwork.maps.corpus import seen_prefixes
from graftwork.maps.evaluation import Estimate, HeldOut, Velocities, evaluate_map
from graftwork.maps.fitted import FittedMap, map_sequence
from graftwork.maps.pairs import InputPair, SeenPrefixes, read_pairs
from graftwork.models.families import generator_family, load_class
from graftwork.models.tokens import ROLE_CODES
from graftwork.planning.maps import MapStudyTask, PairedPrompt, StudiedMap, VelocityTask
from graftwork.store.hidden_states import HiddenStates, read_layer
from graftwork.store.layout import Store
from graftwork.store.maps import read_map

if TYPE_CHECKING:
    import torch

# Velocities of a row of the same encoder without any map, for which no file is fitted.
UNMAPPED = "unmapped"
METRICS = (
    "map",
    "method",
    "is_control",
    "parameters",
    "pairs",
    "measure",
    "sigma",
    "value",
    "low",
    "high",
    "prompts",
    "tokens",
)
CURVES = ("curve", "at", "prompts_fitted", "pairs", "measure", "value", "low", "high", "prompts", "tokens")
VELOCITIES = ("map", "prompt", "sigma", "from_native", "of_prompt")
_SEED = 0


@dataclass
class Measured:
    """Tables of a study.

    Attributes:
        metrics: rows of metrics.csv.
        curves: rows of curves.csv.
        velocities: rows of velocities.csv.
        problems: maps that could not be measured, one line each.
    """

    metrics: list[Row] = field(default_factory=list)
    curves: list[Row] = field(default_factory=list)
    velocities: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def measure_maps(
    task: MapStudyTask, store: Store, log: logging.Logger, failures: Mapping[str, str]
) -> Measured:
    """Measures the maps of a file on held-out prompts.

    Args:
        task: maps and prompts.
        store: where hidden states and maps are.
        log: log of the job.
        failures: key of hidden states or of a map -> why it could not be made; such maps and prompts are left out, and the
            report says so.
    """
    study = _Study(task, store, log, failures)
    study.tokens()
    if task.velocity is not None:
        study.velocities(task.velocity)
    return study.measured


class _Study:
    """Reads what a study is of, and collects rows."""

    def __init__(
        self, task: MapStudyTask, store: Store, log: logging.Logger, failures: Mapping[str, str]
    ) -> None:
        self._task, self._store, self._log, self._failures = task, store, log, failures
        self.measured = Measured()
        self._held_out, self._seen = cache(self._read_held_out), cache(self._read_seen)
        self._map = cache(lambda key: read_map(store.map(key)))

    def tokens(self) -> None:
        """Measures every map on held-out tokens."""
        progress = Progress("maps measured", len(self._task.maps))
        for one in self._usable():
            fitted, held_out = self._map(one.key), self._held_out(one.layers)
            found = evaluate_map(fitted, held_out, with_kernel=not one.curve)
            for measure, estimate in found.items():
                self._add(one, fitted, measure, estimate, len(held_out.prompts), held_out.tokens)
            progress.advance()
        progress.end(0)

    def _add(
        self,
        one: StudiedMap,
        fitted: FittedMap,
        measure: str,
        estimate: Estimate,
        prompts: int,
        tokens: int,
    ) -> None:
        counted = {"measure": measure, **vars(estimate), "prompts": prompts, "tokens": tokens}
        if one.curve:
            place = {"curve": one.curve, "at": one.at, "prompts_fitted": fitted.prompts}
            self.measured.curves.append({**place, "pairs": fitted.pairs, **counted})
        else:
            self.measured.metrics.append({**_about(one, fitted), "sigma": "", **counted})

    def velocities(self, task: VelocityTask) -> None:
        """Compares velocities under mapped states with those under native ones and under an empty prompt."""
        from graftwork.models.hardware import configure_torch
        from graftwork.models.loading import load_generator

        family = generator_family(task.generator.entry["family"])
        if family.velocity is None:
            self._problem(
                f"velocities are left out: generators of family {family.name} have no function for them"
            )
            return
        configure_torch(task.hardware)
        generator = load_generator(task.generator.name, task.generator.entry, task.hardware)
        velocity = load_class(family.velocity)
        prompts = self._readable(self._task.held_out)[: task.prompts]
        maps = [one for one in self._usable() if not one.curve]
        compared = _Compared(task, lambda *about: velocity(generator, *about), _latent_shape(task))
        empty = _as_float32(self._layer(task.empty, self._task.target_layer))
        progress = Progress("prompts compared", len(prompts))
        squares: dict[str, list[dict[float, float]]] = {UNMAPPED: [], **{one.name: [] for one in maps}}
        spreads: list[dict[float, float]] = []
        for number, prompt in enumerate(prompts):
            native = self._layer(prompt.target, self._task.target_layer)
            points = compared.points(_as_float32(native), _SEED + number)
            spreads.append(compared.distance(points, empty))
            for name, caption in self._captions(prompt, maps):
                squares[name].append(compared.distance(points, caption))
            progress.advance()
        progress.end(0)
        for name, found in squares.items():
            self._add_velocities(name, prompts, found, spreads, maps)

    def _captions(
        self, prompt: PairedPrompt, maps: Sequence[StudiedMap]
    ) -> Iterator[tuple[str, "torch.Tensor"]]:
        """Yields (name of a map, what it makes of a prompt), first without any map."""
        import torch

        first = next(one for one in self._task.maps if one.name == self._task.method)
        yield UNMAPPED, _as_float32(self._layer(prompt.source, first.layers[0]))
        for one in maps:
            layers = [self._layer(prompt.source, layer) for layer in one.layers]
            is_sink = torch.from_numpy(layers[0].roles == ROLE_CODES["sink"])
            states = torch.stack([_as_float32(layer) for layer in layers])
            yield one.name, map_sequence(self._map(one.key), states, is_sink)

    def _add_velocities(
        self,
        name: str,
        prompts: Sequence[PairedPrompt],
        found: Sequence[Mapping[float, float]],
        spreads: Sequence[Mapping[float, float]],
        maps: Sequence[StudiedMap],
    ) -> None:
        sigmas = self._task.velocity.sigmas
        columns = {sigma: np.array([one[sigma] for one in found]) for sigma in sigmas}
        of_prompt = {sigma: np.array([one[sigma] for one in spreads]) for sigma in sigmas}
        about = next((_about(one, self._map(one.key)) for one in maps if one.name == name), None) or {
            "map": name,
            "method": "",
            "is_control": True,
            "parameters": 0,
            "pairs": 0,
        }
        for sigma, estimate in Velocities(columns, of_prompt).estimates().items():
            counted = {"measure": "velocity_error", "sigma": sigma, **vars(estimate)}
            self.measured.metrics.append({**about, **counted, "prompts": len(prompts), "tokens": ""})
        self.measured.velocities += [
            {
                "map": name,
                "prompt": prompt.prompt,
                "sigma": sigma,
                "from_native": float(columns[sigma][row]),
                "of_prompt": float(of_prompt[sigma][row]),
            }
            for row, prompt in enumerate(prompts)
            for sigma in sigmas
        ]

    def _usable(self) -> list[StudiedMap]:
        for one in self._task.maps:
            if one.key in self._failures:
                where = f" ({one.curve} {one.at})" if one.curve else ""
                self._problem(f"map {one.name}{where} is left out: {self._failures[one.key]}")
        return [one for one in self._task.maps if one.key not in self._failures]

    def _readable(self, prompts: Sequence[PairedPrompt]) -> list[PairedPrompt]:
        kept = []
        for prompt in prompts:
            failed = [key for key in (prompt.source, prompt.target) if key in self._failures]
            if failed:
                self._problem(f"prompt {prompt.prompt!r} is left out: {self._failures[failed[0]]}")
            else:
                kept.append(prompt)
        return kept

    def _read_held_out(self, layers: tuple[int, ...]) -> HeldOut:
        """Returns the pairs of held-out prompts; a beginning that a fitted prompt has too does not count."""
        inputs = [InputPair(one.source, one.target) for one in self._readable(self._task.held_out)]
        pairs = read_pairs(
            inputs,
            self._layer,
            layers,
            self._task.target_layer,
            self._task.normalization,
            SeenPrefixes(set(self._seen().hashes)),
        )
        return HeldOut([one for _, one in pairs])

    def _read_seen(self) -> SeenPrefixes:
        first = next(one for one in self._task.maps if one.name == self._task.method)
        inputs = [InputPair(one.source, one.target) for one in self._readable(self._task.fitted)]
        return seen_prefixes(
            inputs, self._layer, first.layers, self._task.target_layer, self._task.normalization
        )

    def _layer(self, key: str, layer: int) -> HiddenStates:
        return read_layer(self._store.hidden_states(key), layer)

    def _problem(self, line: str) -> None:
        if line not in self.measured.problems:
            self._log.warning(line)
            self.measured.problems.append(line)


def _about(one: StudiedMap, fitted: FittedMap) -> Row:
    return {
        "map": one.name,
        "method": one.method,
        "is_control": one.is_control,
        "parameters": fitted.parameters,
        "pairs": fitted.pairs,
    }


@dataclass(frozen=True)
class _Point:
    """Where velocities are compared.

    Attributes:
        sigma: noise level.
        latents: float32 (channels, height, width).
        native: velocity under the text encoder's own states.
    """

    sigma: float
    latents: "torch.Tensor"
    native: "torch.Tensor"


@dataclass(frozen=True)
class _Compared:
    """Velocities at the same latents.

    Attributes:
        task: noise levels.
        velocity: (caption, latents, sigma) -> velocity.
        shape: of the latents.
    """

    task: VelocityTask
    velocity: Callable[..., "torch.Tensor"]
    shape: tuple[int, int, int]

    def points(self, native: "torch.Tensor", seed: int) -> list[_Point]:
        """Returns the points of a prompt, from the highest noise level to the lowest.

        The latents are sigma * noise + (1 - sigma) * image, with the image that the transformer predicts under the native
        states at the highest level: no image is sampled.
        """
        import torch

        noise = torch.randn(self.shape, generator=torch.Generator("cpu").manual_seed(seed))
        points: list[_Point] = []
        image = torch.zeros(self.shape)
        for sigma in sorted(self.task.sigmas, reverse=True):
            latents = noise if not points else sigma * noise + (1.0 - sigma) * image
            found = self.velocity(native, latents, sigma)
            if not points:
                image = latents - sigma * found
            points.append(_Point(sigma, latents, found))
        return points

    def distance(self, points: Sequence[_Point], caption: "torch.Tensor") -> dict[float, float]:
        """Returns sigma -> squared distance to the native velocity."""
        return {
            point.sigma: float(
                (self.velocity(caption, point.latents, point.sigma) - point.native).square().sum()
            )
            for point in points
        }


def _latent_shape(task: VelocityTask) -> tuple[int, int, int]:
    from graftwork.models.description import describe_model
    from graftwork.models.loading import ensure_model

    folder = ensure_model(task.generator.name, task.generator.entry, "generator")
    facts = describe_model(task.generator.entry, "generator", folder, task.generator.name)
    # An image token is a patch of two latents on a side.
    pixels = facts.size_multiple // 2
    return facts.latent_channels, task.height // pixels, task.width // pixels


def _as_float32(states: HiddenStates) -> "torch.Tensor":
    import torch

    from graftwork.statistics.accumulator import decode_states

    return torch.from_numpy(np.ascontiguousarray(decode_states(states.values, states.dtype)))


def write_tables(measured: Measured, folder: Path) -> None:
    """Writes the tables of a study, and its problems."""
    for name, columns, rows in (
        ("metrics.csv", METRICS, measured.metrics),
        ("curves.csv", CURVES, measured.curves),
        ("velocities.csv", VELOCITIES, measured.velocities),
    ):
        write_derived(folder / name, write_table(rows, columns))
    write_derived(folder / "problems.txt", "".join(f"{line}\n" for line in measured.problems))
