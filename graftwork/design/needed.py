"""Which models experiments and analyses need, from what their files say: no model has to be here for that."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graftwork.core.errors import require_known
from graftwork.design.schema import Base
from graftwork.scores.registry import scores

ENCODER, GENERATOR, SCORER = "encoder", "generator", "scorer"


@dataclass(frozen=True)
class NeededModel:
    """A model that is asked for.

    Attributes:
        kind: "encoder", "generator" or "scorer".
        name: Name in the models file.
        entry: Its entry there, without empty keys.
        wanted_by: Files that ask for it.
    """

    kind: str
    name: str
    entry: Mapping[str, Any]
    wanted_by: tuple[str, ...]


@dataclass(frozen=True)
class NeededModels:
    """What experiments and analyses ask for.

    Attributes:
        models: The models, encoders first, each once.
        pairs: (encoder, generator) whose hidden states and captions have to have one width.
        sizes: (width, height) of images in pixels.
    """

    models: tuple[NeededModel, ...]
    pairs: tuple[tuple[str, str], ...]
    sizes: tuple[tuple[int, int], ...]


class ModelNeeds:
    """Collects what files ask for."""

    def __init__(self, entries: Mapping[str, Mapping[str, Mapping[str, Any]]], file: str):
        """Takes the models that there are.

        Args:
            entries: Content of the models file.
            file: Its path, for messages.
        """
        self._entries, self._file = entries, file
        self._wanted: dict[tuple[str, str], list[str]] = {}
        self._pairs: dict[tuple[str, str], None] = {}
        self._sizes: dict[tuple[int, int], None] = {}

    def add_experiment(self, raw: Any, defaults: Mapping[str, Any], file: str) -> None:
        """Collects what an experiment asks for.

        Args:
            raw: Content of its file for the chosen family.
            defaults: Values for `base` that it may leave out.
            file: Its path.

        Raises:
            DesignError: for a name that is not in the models file.
        """
        raw = raw if isinstance(raw, Mapping) else {}
        encoders = dict.fromkeys(_values(raw, defaults, ENCODER))
        encoders |= dict.fromkeys(_in_values(raw))
        for generator in _values(raw, defaults, GENERATOR):
            self._want(GENERATOR, generator, file)
            text_encoder = self._entries["generators"][generator]["text_encoder"]
            for encoder in (text_encoder, *encoders):
                self._want(ENCODER, encoder, file)
                self._pairs[encoder, generator] = None
        for width in _values(raw, defaults, "width"):
            for height in _values(raw, defaults, "height"):
                self._sizes[width, height] = None

        chosen = raw.get("scorers") or {}
        known = scores()
        for score in raw.get("scores") or ():
            for question in known[score].questions if score in known else ():
                if question.role in chosen:
                    self._want(SCORER, chosen[question.role], file)

    def add_analysis(self, raw: Any, file: str) -> None:
        """Collects what an analysis asks for: the content and path of its file, as of an experiment."""
        for encoder in _nested(raw, ENCODER):
            self._want(ENCODER, encoder, file)

    def _want(self, kind: str, name: str, file: str) -> None:
        require_known(name, self._entries[f"{kind}s"], kind, file)
        files = self._wanted.setdefault((kind, name), [])
        if file not in files:
            files.append(file)

    def collected(self) -> NeededModels:
        """Returns what was collected."""
        models = [
            NeededModel(
                kind,
                name,
                {key: value for key, value in self._entries[f"{kind}s"][name].items() if value is not None},
                tuple(files),
            )
            for (kind, name), files in self._wanted.items()
        ]
        return NeededModels(
            tuple(sorted(models, key=lambda model: model.kind)), tuple(self._pairs), tuple(self._sizes)
        )


def _values(raw: Mapping[str, Any], defaults: Mapping[str, Any], key: str) -> list[Any]:
    """Returns the values that a parameter has in an experiment; none where it is nothing."""
    axes, base = raw.get("axes") or {}, raw.get("base") or {}
    default = Base.model_fields[key].get_default()
    values = axes.get(key, [base.get(key, defaults.get(key, default))])
    settings = raw.get("settings") or {}
    own = [setting[key] for setting in settings.values() if isinstance(setting, Mapping) and key in setting]
    found: Sequence[Any] = [*(values if isinstance(values, list) else [values]), *own]
    kind = type(default) if isinstance(default, int) else str
    return list(dict.fromkeys(value for value in found if isinstance(value, kind)))


def _in_values(raw: Mapping[str, Any]) -> Iterator[str]:
    """Yields the encoders that values of parameters name, such as that of a corpus."""
    settings = raw.get("settings") or {}
    for parameters in (raw.get("base"), raw.get("axes"), *settings.values()):
        for name, value in parameters.items() if isinstance(parameters, Mapping) else ():
            if name != ENCODER:
                yield from _nested(value, ENCODER)


def _nested(node: Any, key: str) -> Iterator[str]:
    """Yields the texts under a key at any depth."""
    if isinstance(node, list):
        for item in node:
            yield from _nested(item, key)
    elif isinstance(node, Mapping):
        for name, value in node.items():
            if name == key and isinstance(value, str):
                yield value
            else:
                yield from _nested(value, key)
