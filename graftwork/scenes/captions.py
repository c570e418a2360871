"""Language of the miniature world: full captions with an exact inverse, questions, and tasks to train on.

A full caption states all six attributes in one of several phrasings. Phrasings differ in order, sentence
structure and some words, so turning one into another takes more than copying. Everything is lower case; what is
chosen at random depends on a seed and the scene only.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property

from graftwork.scenes.world import (
    ATTRIBUTES,
    VOCABULARY,
    Scene,
    draw_number,
    held_out_kinds,
    scene_index,
    split_scenes,
)

_BIG_LITTLE = {"small": "little", "large": "big"}
_PLACES = {
    "centre": "in the centre",
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
}
_MIDDLE = _PLACES | {"centre": "in the middle"}
_OBJECT = ("shape", "colour", "size", "position")
_SETTING = ("background", "texture")


@dataclass(frozen=True)
class Phrasing:
    """One way to say a full caption.

    Attributes:
        template: Text with one field per attribute, in braces; the same attribute may occur once only.
        request: How a task asks for this phrasing, put after "say it" or "describe the picture".
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
        {"position": _PLACES},
    ),
    "background_first": Phrasing(
        "a {texture} {background} background with a {size} {colour} {shape} {position}",
        "with the background first",
        {"position": _PLACES},
    ),
    "place_first": Phrasing(
        "{position} there is a {shape} that is {size} and {colour}, and behind it all is {background} and {texture}",
        "with the place first",
        {"position": _MIDDLE, "size": _BIG_LITTLE},
    ),
    "sentences": Phrasing(
        "the background is {background}. it is {texture}. the {shape} is {colour}. it is {size}. it is {position}.",
        "in short sentences",
        {"position": _PLACES},
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
    return _choose(list(PHRASINGS), seed, "phrasing", scene_index(scene))


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


# Attribute to wordings of a question about it; none occurs under two attributes.
QUESTIONS = {
    "shape": ("what shape is the object?", "which shape is it?"),
    "colour": ("what colour is the object?", "which colour does the object have?"),
    "size": ("how large is the object?", "what size is the object?"),
    "position": ("where is the object?", "in which place is the object?"),
    "background": ("what colour is the background?", "which colour does the background have?"),
    "texture": ("what texture is the background?", "which pattern does the background have?"),
}


def answer_question(scene: Scene, attribute: str) -> str:
    """Returns the answer to a question about an attribute: its value, for a position as in "on the left"."""
    value = getattr(scene, attribute)
    return _PLACES[value] if attribute == "position" else value


def parse_answer(attribute: str, text: str) -> str | None:
    """Returns the value that an answer to a question about an attribute states, or None if it states none."""
    normal = " ".join(text.lower().split()).removesuffix(".")
    values = {_PLACES[v] if attribute == "position" else v: v for v in VOCABULARY[attribute]}
    return values.get(normal)


def questions(scene: Scene, seed: int = 0) -> list[tuple[str, str]]:
    """Returns a question and its answer for each attribute, in the order of ATTRIBUTES; the seed chooses the words."""
    return [
        (
            _choose(QUESTIONS[attribute], seed, "question", attribute, scene_index(scene)),
            answer_question(scene, attribute),
        )
        for attribute in ATTRIBUTES
    ]


@dataclass(frozen=True)
class Task:
    """Something to train on or to test.

    Attributes:
        kind: The name in TASKS of the function that made it.
        picture: The scene that is shown, or None if the prompt is all there is.
        prompt: What is asked.
        answer: The one right answer.
        target: The scene that the answer is about; where the answer is a full caption, the scene it describes.
    """

    kind: str
    picture: Scene | None
    prompt: str
    answer: str
    target: Scene


def rephrase(scene: Scene, seed: int) -> Task:
    """Text to text: a caption, to be said in another phrasing, which the prompt names: one right answer."""
    source = draw_phrasing(scene, seed)
    others = [name for name in PHRASINGS if name != source]
    target = _choose(others, seed, "rephrase", scene_index(scene))
    prompt = f"say it {PHRASINGS[target].request}: {write_caption(scene, source)}"
    return Task("rephrase", None, prompt, write_caption(scene, target), scene)


def change(scene: Scene, seed: int) -> Task:
    """Text to text: a caption with one attribute to be changed, in the same phrasing."""
    phrasing = draw_phrasing(scene, seed)
    target = _choose(_neighbours(scene, ATTRIBUTES, single=True), seed, "change", scene_index(scene))
    attribute = next(a for a in ATTRIBUTES if getattr(scene, a) != getattr(target, a))
    prompt = f"change the {attribute} to {getattr(target, attribute)}: {write_caption(scene, phrasing)}"
    return Task("change", None, prompt, write_caption(target, phrasing), target)


def answer_text(scene: Scene, seed: int) -> Task:
    """Text to text: a caption and a question about one attribute."""
    question, answer = _choose(questions(scene, seed), seed, "answer_text", scene_index(scene))
    prompt = f"{question} {write_caption(scene, draw_phrasing(scene, seed))}"
    return Task("answer_text", None, prompt, answer, scene)


def describe(scene: Scene, seed: int) -> Task:
    """Picture to text: the full caption, in a phrasing which the prompt names."""
    phrasing = draw_phrasing(scene, seed)
    prompt = f"describe the picture {PHRASINGS[phrasing].request}"
    return Task("describe", scene, prompt, write_caption(scene, phrasing), scene)


def answer_picture(scene: Scene, seed: int) -> Task:
    """Picture to text: a question about one attribute."""
    question, answer = _choose(questions(scene, seed), seed, "answer_picture", scene_index(scene))
    return Task("answer_picture", scene, question, answer, scene)


def borrow_style(scene: Scene, seed: int) -> Task:
    """Picture and text to text: the object of the prompt in the style of the picture, its background and texture."""
    target = _choose(_neighbours(scene, _OBJECT), seed, "borrow_style", scene_index(scene))
    prompt = f"a {target.size} {target.colour} {target.shape} {_PLACES[target.position]} in the style of the picture"
    return Task("borrow_style", scene, prompt, write_caption(target), target)


def borrow_object(scene: Scene, seed: int) -> Task:
    """Picture and text to text: the object of the picture before the background of the prompt."""
    target = _choose(_neighbours(scene, _SETTING), seed, "borrow_object", scene_index(scene))
    prompt = f"the object of the picture on a {target.texture} {target.background} background"
    return Task("borrow_object", scene, prompt, write_caption(target), target)


TASKS: dict[str, Callable[[Scene, int], Task]] = {
    make.__name__: make
    for make in (rephrase, change, answer_text, describe, answer_picture, borrow_style, borrow_object)
}


def _choose(options, seed: int, *labels: object):
    return options[draw_number(seed, *labels) % len(options)]


@cache
def _groups(split: str, fixed: tuple[str, ...]) -> dict[tuple[str, ...], list[Scene]]:
    """Groups the scenes of a split by the values of some attributes."""
    groups: dict[tuple[str, ...], list[Scene]] = {}
    for scene in split_scenes(split):
        groups.setdefault(tuple(getattr(scene, a) for a in fixed), []).append(scene)
    return groups


def _neighbours(scene: Scene, attributes: tuple[str, ...], single: bool = False) -> list[Scene]:
    """Returns the other scenes, of the same split, that differ in some of the attributes alone.

    The split is kept because a training task whose answer were held out would give the combination away. A held
    out scene without such neighbours takes them from all scenes; a scene of training always has some.

    Args:
        scene: The scene to start from.
        attributes: Those that may differ.
        single: Whether exactly one of them differs.
    """
    for split in ("held_out" if held_out_kinds(scene) else "train", "all"):
        if single:
            near = [
                replace(scene, **{a: v})
                for a in attributes
                for v in VOCABULARY[a]
                if v != getattr(scene, a) and _is_visible(scene, a, v)
            ]
            near = [s for s in near if split == "all" or bool(held_out_kinds(s)) == (split == "held_out")]
        else:
            fixed = tuple(a for a in ATTRIBUTES if a not in attributes)
            near = [s for s in _groups(split, fixed)[tuple(getattr(scene, a) for a in fixed)] if s != scene]
        if near:
            return near
    raise AssertionError("every scene has neighbours among all scenes")


def _is_visible(scene: Scene, attribute: str, value: str) -> bool:
    """Whether the object still differs from the background when an attribute takes another value."""
    other = {"colour": scene.background, "background": scene.colour}.get(attribute)
    return value != other
