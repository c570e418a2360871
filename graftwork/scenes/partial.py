"""Captions that leave something open, the headline that all captions come down to, and tasks about both.

A caption may speak of the object alone or of the setting alone. Its headline names the setting first, so that
a model about to write it must already know the background's colour; what nobody said is "any". With a picture,
the picture fills in what the text leaves open.
"""

import re
from collections.abc import Callable
from functools import cache

from graftwork.scenes.captions import (
    PHRASINGS,
    Task,
    answer_text,
    change,
    draw_phrasing,
    parse_attributes,
    rephrase,
    write_caption,
)
from graftwork.scenes.world import (
    COLOURS,
    POSITIONS,
    SHAPES,
    SIZES,
    TEXTURES,
    VOCABULARY,
    Scene,
    draw_number,
    scene_index,
    split_scenes,
)

# What a caption speaks of -> the attributes that it states.
ABOUT = {
    "everything": tuple(VOCABULARY),
    "object": ("shape", "colour", "size", "position"),
    "setting": ("background", "texture"),
}
_PLACES = PHRASINGS["object_first"].words["position"]
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
_ANY_SETTING = "any background"
_ANY_OBJECT = "any object"
_HEADLINE = re.compile(
    f"(?:{_ANY_SETTING}|(?P<background>{'|'.join(COLOURS)}) (?P<texture>{'|'.join(TEXTURES)}) background), "
    f"(?:{_ANY_OBJECT}|(?P<size>{'|'.join(SIZES)}) (?P<colour>{'|'.join(COLOURS)}) (?P<shape>{'|'.join(SHAPES)}), "
    f"(?P<position>{'|'.join(POSITIONS)}))"
)


def write_partial(scene: Scene, about: str, seed: int) -> str:
    """Returns a caption of a scene that states some attributes; the seed and the scene choose the wording.

    Args:
        scene: The scene.
        about: "everything", "object" or "setting".
        seed: Decides the wording.

    Raises:
        ValueError: If `about` is none of these.
    """
    _require_about(about)
    if about == "everything":
        return write_caption(scene, draw_phrasing(scene, seed))
    wordings = _PARTIAL[about]
    wording = wordings[draw_number(seed, "partial", about, scene_index(scene)) % len(wordings)]
    values = {attribute: getattr(scene, attribute) for attribute in ABOUT[about]}
    return wording.format(**values, place=_PLACES[scene.position])


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
                stated["position"] = next(value for value, words in _PLACES.items() if words == place)
            return {attribute: stated[attribute] for attribute in VOCABULARY if attribute in stated}
    try:
        return parse_attributes(normal)
    except ValueError:
        raise ValueError(f"{text!r} is no caption of a scene, of its object or of its setting") from None


@cache
def _partial_patterns() -> tuple[re.Pattern, ...]:
    """Returns the wordings of partial captions as expressions with a named group per field."""
    words = {**VOCABULARY, "place": tuple(_PLACES.values())}
    patterns = []
    for wording in (each for wordings in _PARTIAL.values() for each in wordings):
        parts = re.split(r"\{(\w+)\}", wording)
        groups = (f"(?P<{p}>{'|'.join(words[p])})" if i % 2 else re.escape(p) for i, p in enumerate(parts))
        patterns.append(re.compile("".join(groups)))
    return tuple(patterns)


def write_headline(scene: Scene, about: str = "everything") -> str:
    """Returns the headline, the setting first; "any" stands for what is left open.

    Raises:
        ValueError: If `about` is not "everything", "object" or "setting".
    """
    _require_about(about)
    setting = _ANY_SETTING if about == "object" else f"{scene.background} {scene.texture} background"
    thing = (
        _ANY_OBJECT if about == "setting" else f"{scene.size} {scene.colour} {scene.shape}, {scene.position}"
    )
    return f"{setting}, {thing}"


def parse_headline(text: str) -> dict[str, str]:
    """Returns attribute to value for what a headline states; nothing for what it leaves open.

    Raises:
        ValueError: If the text is no headline.
    """
    match = _HEADLINE.fullmatch(" ".join(text.lower().split()))
    if match is None:
        raise ValueError(f"{text!r} is no headline")
    return {attribute: value for attribute, value in match.groupdict().items() if value is not None}


def draw_scene_agreeing_with(scene: Scene, about: str, seed: int, split: str = "train") -> Scene:
    """Returns a scene of a split with the same stated attributes, the open ones drawn at random.

    Where the split has none, the scene itself is returned.
    """
    _require_about(about)
    fixed = ABOUT[about]
    agreeing = _agreeing(split, about).get(tuple(getattr(scene, a) for a in fixed), [scene])
    return agreeing[draw_number(seed, "agreeing", about, scene_index(scene)) % len(agreeing)]


def restate(scene: Scene, seed: int, about: str = "everything") -> Task:
    """Text to text: a caption and nothing else; the answer is its headline."""
    return Task(
        f"restate_{about}", None, write_partial(scene, about, seed), write_headline(scene, about), scene
    )


def restate_object(scene: Scene, seed: int) -> Task:
    """Text to text: a caption of the object alone."""
    return restate(scene, seed, "object")


def restate_setting(scene: Scene, seed: int) -> Task:
    """Text to text: a caption of the setting alone."""
    return restate(scene, seed, "setting")


def repeat(scene: Scene, seed: int) -> Task:
    """Text to text: words in no order, to be said again; teaches copying, which captions alone teach slowly."""
    words = sorted({value for values in VOCABULARY.values() for value in values})
    count = 4 + draw_number(seed, "repeat", scene_index(scene)) % 9
    chosen = [
        words[draw_number(seed, "repeat", scene_index(scene), place) % len(words)] for place in range(count)
    ]
    text = " ".join(chosen)
    return Task("repeat", None, f"repeat: {text}", text, scene)


def complete_object(scene: Scene, seed: int) -> Task:
    """Picture and text to text: the text names an object; its setting is the picture's."""
    return _complete(scene, seed, "object")


def complete_setting(scene: Scene, seed: int) -> Task:
    """Picture and text to text: the text names a setting; the object is the picture's."""
    return _complete(scene, seed, "setting")


def ignore_picture(scene: Scene, seed: int) -> Task:
    """Picture and text to text: the text says everything, so the picture of another scene does not matter."""
    pool = split_scenes("train")
    other = pool[draw_number(seed, "ignored", scene_index(scene)) % len(pool)]
    return Task(
        "ignore_picture", other, write_partial(scene, "everything", seed), write_headline(scene), scene
    )


TEXT_TASKS: dict[str, Callable[[Scene, int], Task]] = {
    make.__name__: make
    for make in (restate, restate_object, restate_setting, repeat, rephrase, change, answer_text)
}


def _complete(scene: Scene, seed: int, about: str) -> Task:
    """Shows a scene's picture; the text states what another scene, which agrees on the rest, has."""
    rest = "setting" if about == "object" else "object"
    target = draw_scene_agreeing_with(scene, rest, seed)
    return Task(
        f"complete_{about}", scene, write_partial(target, about, seed), write_headline(target), target
    )


_groups: dict[tuple[str, str], dict[tuple[str, ...], list[Scene]]] = {}


def _agreeing(split: str, about: str) -> dict[tuple[str, ...], list[Scene]]:
    if (split, about) not in _groups:
        groups: dict[tuple[str, ...], list[Scene]] = {}
        for scene in split_scenes(split):
            groups.setdefault(tuple(getattr(scene, a) for a in ABOUT[about]), []).append(scene)
        _groups[split, about] = groups
    return _groups[split, about]


def _require_about(about: str) -> None:
    if about not in ABOUT:
        raise ValueError(f"about {about!r} is not known; allowed: {', '.join(ABOUT)}")
