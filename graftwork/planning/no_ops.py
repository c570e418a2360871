"""Settings that do nothing: whose images, or whose conditioning as the generator sees it, are those of another setting.

A setting is the parameters of a cell without prompt, reference and seed. It is a no-op where for all its prompts,
references and seeds it gives what the text alone gives, or what one earlier setting gives. At alpha 0 a setting is the
text alone by definition; it is counted apart.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from graftwork.conditioning.sketches import KnownSketches
from graftwork.core.cells import CONTROL, COORDINATES, OncePerSetting, Parameters
from graftwork.core.identity import canonical_json
from graftwork.core.records import to_json
from graftwork.design.cells import Design
from graftwork.planning.plan import PlanEntry

TEXT_ALONE = "the text alone"
# From the strongest to the weakest.
KINDS = {
    "bytes": "the same bytes",
    "scale": "the same but for a scale that the generator cannot see",
    "images": "other conditioning, the same images",
}
# Values of an axis that are named one by one.
_MOST_VALUES = 6
# Image key -> what stands for its pixels, None where there is no image.
ReadPixels = Callable[[str], str | None]


@dataclass(frozen=True)
class NoOp:
    """One setting that does nothing.

    Attributes:
        values: axis -> label of its value, for the axes that settings vary on.
        equals: the same of the setting that it equals; None for the text alone.
        kind: one of `KINDS`, the weakest over its cells.
        pairs: (cell, the cell that it equals), one for each prompt, reference and seed.
    """

    values: dict[str, str]
    equals: dict[str, str] | None
    kind: str
    pairs: list[tuple[str, str]]


@dataclass(frozen=True)
class NoOps:
    """No-ops of one experiment.

    Attributes:
        found: settings that do nothing, in the order of the experiment.
        settings: how many settings have an alpha above 0, those not compared included.
        at_zero: how many have alpha 0.
        unknown: how many could not be compared, because the conditioning of a cell is not known.
        values: axis -> labels of all its values, for the axes that settings vary on.
    """

    found: list[NoOp]
    settings: int
    at_zero: int
    unknown: int
    values: dict[str, list[str]]

    @property
    def is_known(self) -> bool:
        """Whether there was anything to compare."""
        return self.settings > self.unknown


@dataclass
class Setting:
    """The cells that differ by nothing but prompt, reference and seed.

    Attributes:
        values: axis -> label of its value, for the axes that settings vary on.
        at_zero: whether alpha is 0.
        cells: prompt, reference and seed, as text -> cell.
    """

    values: dict[str, str]
    at_zero: bool
    cells: dict[str, str] = field(default_factory=dict)


def first_alike(cells: Sequence[str], resolved: Mapping[str, PlanEntry]) -> dict[str, str]:
    """Returns for each cell the first one that gives the generator the same but for a scale, which may be itself.

    Args:
        cells: names of cells, in order.
        resolved: cell -> what the store calls it.
    """
    known, first = KnownSketches(), {}
    for cell in cells:
        entry = resolved[cell]
        if entry.image is None:
            first[cell] = cell
            continue
        sampling = to_json(replace(entry.parts, conditioning=""))
        first[cell] = known.first_like(canonical_json(sampling), entry.report.sketch, cell)
    return first


def find_no_ops(
    design: Design,
    resolved: Mapping[str, PlanEntry],
    read_pixels: ReadPixels = lambda image: None,
) -> NoOps:
    """Compares the settings of an experiment.

    Args:
        design: the experiment.
        resolved: cell -> what the store calls it.
        read_pixels: given an image's key, says what stands for its pixels; without it no image is looked at.
    """
    looks = _Looks(design, resolved, read_pixels)
    settings, axes = settings_of(design)
    found, unknown, kept = [], 0, _Kept(looks)
    for setting in settings:
        cells = setting.cells
        if setting.at_zero:
            # Where there are no baselines, these are the text alone.
            if not design.baselines:
                kept.add(setting)
        elif any(resolved[cell].image is None for cell in cells.values()):
            unknown += 1
        else:
            text = {place: design.baselines.get(cell) for place, cell in cells.items()}
            others = [(None, text), *((other.values, other.cells) for other in kept.candidates(setting))]
            kinds = [looks.kind_of(cells, other) for _, other in others]
            if not any(kinds):
                # What equals a no-op equals what that one equals: it is enough to look at those that do something.
                kept.add(setting)
                continue
            best = min(range(len(kinds)), key=lambda at: [*KINDS, None].index(kinds[at]))
            equals, other = others[best]
            pairs = [(cell, other[place]) for place, cell in cells.items()]
            found.append(NoOp(setting.values, equals, kinds[best], pairs))
    at_zero = sum(setting.at_zero for setting in settings)
    return NoOps(found, len(settings) - at_zero, at_zero, unknown, axes)


class _Looks:
    """How two cells are alike."""

    def __init__(self, design: Design, resolved: Mapping[str, PlanEntry], read_pixels: ReadPixels) -> None:
        self._resolved, self._read_pixels = resolved, read_pixels
        self._alike = first_alike([cell.cell for cell in design.cells], resolved)
        self._pixels: dict[str, str | None] = {}

    def of(self, cell: str | None) -> dict[str, str | None]:
        """Returns kind -> what two cells have to share to be alike in that way; None is shared with none."""
        image = self._resolved[cell].image if cell in self._resolved else None
        if image is None:
            return dict.fromkeys(KINDS)
        if image not in self._pixels:
            self._pixels[image] = self._read_pixels(image)
        return {"bytes": image, "scale": self._alike[cell], "images": self._pixels[image]}

    def kind_of(self, cells: Mapping[str, str], others: Mapping[str, str | None]) -> str | None:
        """Returns how two settings are alike, the weakest kind over all places; None where they differ at one."""
        weakest = 0
        for place, cell in cells.items():
            own, other = self.of(cell), self.of(others.get(place))
            shared = [own[kind] is not None and own[kind] == other[kind] for kind in KINDS]
            if True not in shared:
                return None
            weakest = max(weakest, shared.index(True))
        return list(KINDS)[weakest]


class _Kept:
    """Settings that do something, found by how they look at one place."""

    def __init__(self, looks: _Looks) -> None:
        self._looks = looks
        self._settings: list[Setting] = []
        self._places: dict[tuple[str, str, str], list[int]] = {}

    def add(self, setting: Setting) -> None:
        for place, cell in setting.cells.items():
            for kind, look in self._looks.of(cell).items():
                if look is not None:
                    self._places.setdefault((place, kind, look), []).append(len(self._settings))
        self._settings.append(setting)

    def candidates(self, setting: Setting) -> list[Setting]:
        """Returns those that look like a setting at its first place, in order."""
        place, cell = next(iter(setting.cells.items()))
        looks = self._looks.of(cell).items()
        orders = {order for kind, look in looks for order in self._places.get((place, kind, look or ""), ())}
        return [self._settings[order] for order in sorted(orders)]


def settings_of(design: Design) -> tuple[list[Setting], dict[str, list[str]]]:
    """Returns the settings in the order of the experiment, and the axes that tell them apart with their labels."""
    varying = [
        (place, axis)
        for place, axis in enumerate(design.axes)
        if axis.name not in (*COORDINATES, CONTROL) and axis.varies
    ]
    labels = {}
    for indices, cell in design.positions:
        labels.setdefault(cell, {axis.name: axis.labels[indices[place]] for place, axis in varying})
    settings: dict[str, Setting] = {}
    keys = OncePerSetting(_setting_key)
    for cell in design.cells:
        if cell.role != "cell":
            continue
        parameters = cell.parameters
        key = keys.get(parameters)
        if key not in settings:
            settings[key] = Setting(labels[cell.cell], parameters["alpha"] == 0.0)
        place = canonical_json([parameters.get(name) for name in COORDINATES])
        settings[key].cells[place] = cell.cell
    return list(settings.values()), {axis.name: list(axis.labels) for _, axis in varying}


def _setting_key(parameters: Parameters) -> str:
    return canonical_json({name: value for name, value in parameters.items() if name not in COORDINATES})


def setting_text(values: Mapping[str, str] | None) -> str:
    """Returns a setting in the words of the axes: alpha 0.5, target_std 70."""
    if values is None:
        return TEXT_ALONE
    return ", ".join(f"{name} {value}" for name, value in values.items()) or "the only setting"


def headline(found: NoOps, experiment: str) -> str:
    """Returns how many settings do nothing, without a full stop."""
    named = "1 setting" if found.settings == 1 else f"{found.settings} settings"
    count = len(found.found)
    text = f"{experiment}: {count} of {named} with alpha above 0 " + (
        "is a no-op" if count == 1 else "are no-ops"
    )
    more = []
    if found.unknown:
        more.append(f"{found.unknown} not compared, since the conditioning of a cell is not known")
    if found.at_zero:
        at_zero = (
            "1 setting at alpha 0 is" if found.at_zero == 1 else f"{found.at_zero} settings at alpha 0 are"
        )
        more.append(f"{at_zero} {TEXT_ALONE} by definition and not counted")
    return text + (f" ({'; '.join(more)})" if more else "")


def one_line(found: NoOps, experiment: str, most: int = 6) -> str:
    """Returns the headline and what equals what, in one line.

    Args:
        found: what was found of the experiment.
        experiment: name of the experiment.
        most: how many groups are named; the others are counted.
    """
    named = []
    for kind, text in (group := groups(found))[:most]:
        named.append(text if kind == "bytes" else f"{text} ({KINDS[kind]})")
    if len(group) > most:
        named.append(f"and {len(group) - most} groups more")
    return headline(found, experiment) + (f": {'; '.join(named)}" if named else "")


def groups(found: NoOps) -> list[tuple[str, str]]:
    """Returns (kind, text), many no-ops of one pattern in one text: target_std 61 or 70 = target_std 50, at alpha 1.

    The text has, in this order, the values that differ and those that they equal, and where this holds; an axis that is
    not named has no part in it: it holds for every value of it.
    """
    # What differs and where -> values; what differs, with all its values -> where.
    patterns: dict[tuple[Any, ...], list[dict[str, str]]] = {}
    for item in found.found:
        differing = [
            name for name, value in item.values.items() if item.equals is None or item.equals[name] != value
        ]
        equals = item.equals and {name: item.equals[name] for name in differing}
        where = {name: value for name, value in item.values.items() if name not in differing}
        pattern = (item.kind, _frozen(equals), _frozen(where))
        patterns.setdefault(pattern, []).append({name: item.values[name] for name in differing})
    places: dict[tuple[Any, ...], list[dict[str, str]]] = {}
    for (kind, equals, where), values in patterns.items():
        pattern = (kind, equals, tuple(_frozen(value) for value in values))
        places.setdefault(pattern, []).append(dict(where))
    texts = []
    for (kind, equals, values), where in places.items():
        same = setting_text(None if equals is None else dict(equals))
        left = _alternatives(
            [dict(value) for value in values], found.values, is_whole_left_out=equals is None
        )
        at = _alternatives(where, found.values, is_whole_left_out=True)
        texts.append((kind, f"{left or 'every setting'} = {same}" + (f", at {at}" if at else "")))
    return texts


def _frozen(values: Mapping[str, str] | None) -> tuple[tuple[str, str], ...] | None:
    return None if values is None else tuple(values.items())


def _alternatives(
    values: Sequence[Mapping[str, str]], axes: Mapping[str, Sequence[str]], is_whole_left_out: bool
) -> str:
    """Returns several combinations of values as text: axis by axis where they are a product, else the first ones."""
    spread = {name: list(dict.fromkeys(value[name] for value in values)) for name in values[0]}
    count = 1
    for several in spread.values():
        count *= len(several)
    if count == len(values):
        return ", ".join(
            f"{name} {_some_of(several, axes[name])}"
            for name, several in spread.items()
            if not (is_whole_left_out and len(several) == len(axes[name]))
        )
    shown = [setting_text(value) for value in values[:3]]
    return " / ".join(shown + ([f"{len(values) - 3} more"] if len(values) > 3 else []))


def _some_of(labels: Sequence[str], axis: Sequence[str]) -> str:
    """Returns values of an axis as text: all where they are few, ends or beginning and their number where not."""
    if len(labels) <= _MOST_VALUES:
        return " or ".join(labels)
    start = axis.index(labels[0])
    if list(labels) == list(axis[start : start + len(labels)]):
        return f"{labels[0]} to {labels[-1]} ({len(labels)} values)"
    return f"{' or '.join(labels[: _MOST_VALUES - 1])} or {len(labels) - _MOST_VALUES + 1} others"
