"""Captions of the miniature world: what they state, several ways to say it, and the exact inverse.

A full caption states all six attributes in one of several phrasings. Phrasings differ in order, sentence
structure and some words, so turning one into another takes more than copying. A partial caption states the object alone
or the setting alone. Everything is lower case; what is chosen at random depends on a seed and the scene only.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property

from graftwork.scenes.world import VOCABULARY, Scene, choose, scene_index

# What a caption speaks of -> the attributes that it states.
ABOUT = {
    "everything": tuple(VOCABULARY),
    "object": ("shape", "colour", "size", "position"),
    "setting": ("background", "texture"),
}
_BIG_LITTLE = {"small": "little", "large": "big"}
PLACES = {
    "centre": "in the centre",
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
}
_MIDDLE = PLACES | {"centre": "in the middle"}


@dataclass(frozen=True)
class Phrasing:
    """One way to say a full caption.

    Attributes:
        template: Text with one field per attribute, in braces; the same attribute may occur once only.
        request: Request for this phrasing in a task, after "say it" or "describe the picture".
        words: Attribute to value to word, where the word is not the value itself.
    """

    template: str
    request: str
    words: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def say(self, attribute: str, value: str) -> str:
        """Returns the word of this phrasing for the value of an attribute."""
        return self.words.get(attribute, {}).get(value, value)

    @cached_property
    def pattern(self) -> re.Pattern:
        """The template as a regular expression with one named group per attribute."""
        groups = {
            attribute: f"(?P<{attribute}>{'|'.join(re.escape(self.say(attribute, v)) for v in values)})"
            for attribute, values in VOCABULARY.items()
        }
        parts = re.split(r"\{(\w+)\}", self.template)
        return re.compile("".join(groups[p] if i % 2 else re.escape(p) for i, p in enumerate(parts)))

    def parse(self, text: str) -> dict[str, str] | None:
        """Returns the attributes that a text in this phrasing states, or None for any other text."""
        match = self.pattern.fullmatch(text)
        if match is None:
            return None
        return {
            attribute: next(v for v in values if self.say(attribute, v) == match[attribute])
            for attribute, values in VOCABULARY.items()
        }


PHRASINGS = {
    "object_first": Phrasing(
        "a {size} {colour} {shape} {position} of a {texture} {background} background",
        "with the object first",
        {"position": PLACES},
    ),
    "background_first": Phrasing(
        "a {texture} {background} background with a {size} {colour} {shape} {position}",
        "with the background first",
        {"position": PLACES},
    ),
    "place_first": Phrasing(
        "{position} there is a {shape} that is {size} and {colour}, and behind it all is {background} and {texture}",
        "with the place first",
        {"position": _MIDDLE, "size": _BIG_LITTLE},
    ),
    "sentences": Phrasing(
        "the background is {background}. it is {texture}. the {shape} is {colour}. it is {size}. it is {position}.",
        "in short sentences",
        {"position": PLACES},
    ),
    "tags": Phrasing(
        "{shape}, {colour}, {size}, {position}, {texture}, {background} background",
        "as a list",
    ),
    "story": Phrasing(
        "someone painted a {colour} {shape}, a {size} one, {position} of a {texture} {background} wall",
        "as a story",
        {"position": _MIDDLE, "size": _BIG_LITTLE},
    ),
}
_PARTIAL = {
    "object": (
        "a {size} {colour} {shape} {place}",
        "{place} there is a {shape} that is {size} and {colour}",
        "{shape}, {colour}, {size}, {position}",
    ),
    "setting": (
        "a {texture} {background} background",
        "the background is {background}. it is {texture}.",
        "{texture}, {background} background",
    ),
}


def write_caption(scene: Scene, phrasing: str = "object_first") -> str:
    """Returns the full caption of a scene in a phrasing.

    Raises:
        ValueError: If there is no such phrasing.
    """
    if phrasing not in PHRASINGS:
        raise ValueError(f"phrasing {phrasing!r} is not known; allowed: {', '.join(PHRASINGS)}")
    chosen = PHRASINGS[phrasing]
    return chosen.template.format(**{name: chosen.say(name, value) for name, value in asdict(scene).items()})


def draw_phrasing(scene: Scene, seed: int) -> str:
    """Returns the name of a phrasing that the seed and the scene choose."""
    return choose(list(PHRASINGS), seed, "phrasing", scene_index(scene))


def parse_attributes(text: str) -> dict[str, str]:
    """Reads a full caption, even one of a scene that there is not (an object in its background's colour).

    Case and space are no matter. Use it to score captions that a model wrote, attribute by attribute.

    Returns:
        Attribute to value, all six.

    Raises:
        ValueError: If the text is not a full caption in any phrasing.
    """
    normal = " ".join(text.lower().split())
    for phrasing in PHRASINGS.values():
        attributes = phrasing.parse(normal)
        if attributes is not None:
            return attributes
    raise ValueError(f"{text!r} is not a full caption in any of the phrasings {', '.join(PHRASINGS)}")


def parse_caption(text: str) -> Scene:
    """Returns the scene of a full caption: the inverse of write_caption in every phrasing.

    Raises:
        ValueError: If the text is not a full caption, or of an object in its background's colour.
    """
    return Scene(**parse_attributes(text))


def write_partial(scene: Scene, about: str, seed: int) -> str:
    """Returns a caption of a scene that states some attributes; the seed and the scene choose the wording.

    Args:
        scene: The scene.
        about: "everything", "object" or "setting".
        seed: Decides the wording.

    Raises:
        ValueError: If `about` is none of these.
    """
    require_about(about)
    if about == "everything":
        return write_caption(scene, draw_phrasing(scene, seed))
    wording = choose(_PARTIAL[about], seed, "partial", about, scene_index(scene))
    values = {attribute: getattr(scene, attribute) for attribute in ABOUT[about]}
    return wording.format(**values, place=PLACES[scene.position])


def parse_partial(text: str) -> dict[str, str]:
    """Reads a caption, full or of the object or the setting alone: the inverse of write_partial in every wording.

    Case and space are no matter. As with parse_attributes, a full caption may be of a scene that there is not (an
    object in its background's colour).

    Returns:
        Attribute to value for what the caption states; nothing for what it leaves open.

    Raises:
        ValueError: If the text is no caption.
    """
    normal = " ".join(text.lower().split())
    for pattern in _partial_patterns():
        match = pattern.fullmatch(normal)
        if match is not None:
            stated = match.groupdict()
            place = stated.pop("place", None)
            if place is not None:
                stated["position"] = next(value for value, words in PLACES.items() if words == place)
            return {attribute: stated[attribute] for attribute in VOCABULARY if attribute in stated}
    try:
        return parse_attributes(normal)
    except ValueError:
        raise ValueError(f"{text!r} is no caption of a scene, of its object or of its setting") from None


@cache
def _partial_patterns() -> tuple[re.Pattern, ...]:
    """Returns the wordings of partial captions as expressions with a named group per field."""
    words = {**VOCABULARY, "place": tuple(PLACES.values())}
    patterns = []
    for wording in (each for wordings in _PARTIAL.values() for each in wordings):
        parts = re.split(r"\{(\w+)\}", wording)
        groups = (f"(?P<{p}>{'|'.join(words[p])})" if i % 2 else re.escape(p) for i, p in enumerate(parts))
        patterns.append(re.compile("".join(groups)))
    return tuple(patterns)


def require_about(about: str) -> None:
    """Raises ValueError unless `about` is a key of `ABOUT`."""
    if about not in ABOUT:
        raise ValueError(f"about {about!r} is not known; allowed: {', '.join(ABOUT)}")
