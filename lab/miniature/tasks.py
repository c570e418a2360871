"""Training tasks of the language models: questions, headlines, and tasks about a scene, with and without a picture.

All captions come down to a headline. It names the setting first, so that a model about to write it must already know the
background's colour; what nobody said is "any". With a picture, the picture fills in what the text leaves open.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from graftwork.scenes.captions import (
    ABOUT,
    PHRASINGS,
    PLACES,
    draw_phrasing,
    require_about,
    write_caption,
    write_partial,
)
from graftwork.scenes.world import (
    ATTRIBUTES,
    VOCABULARY,
    Scene,
    choose,
    draw_number,
    held_out_kinds,
    scene_index,
    split_scenes,
)

ANY_SETTING = "any background"
ANY_OBJECT = "any object"
# Attribute to wordings of a question about it; none occurs under two attributes.
QUESTIONS = {
    "shape": ("what shape is the object?", "which shape is it?"),
    "colour": ("what colour is the object?", "which colour does the object have?"),
    "size": ("how large is the object?", "what size is the object?"),
    "position": ("where is the object?", "in which place is the object?"),
    "background": ("what colour is the background?", "which colour does the background have?"),
    "texture": ("what texture is the background?", "which pattern does the background have?"),
}


@dataclass(frozen=True)
class Task:
    """Something to train on or to test.

    Attributes:
        kind: The name in TASKS of the function that made it.
        picture: The scene that is shown, or None if the prompt is all there is.
        prompt: Text of the user.
        answer: The one right answer.
        target: The scene that the answer is about; where the answer is a full caption, the scene it describes.
    """

    kind: str
    picture: Scene | None
    prompt: str
    answer: str
    target: Scene


def answer_question(scene: Scene, attribute: str) -> str:
    """Returns the answer to a question about an attribute: its value, for a position as in "on the left"."""
    value = getattr(scene, attribute)
    return PLACES[value] if attribute == "position" else value


def parse_answer(attribute: str, text: str) -> str | None:
    """Returns the value that an answer to a question about an attribute states, or None if it states none."""
    normal = " ".join(text.lower().split()).removesuffix(".")
    values = {PLACES[v] if attribute == "position" else v: v for v in VOCABULARY[attribute]}
    return values.get(normal)


def questions(scene: Scene, seed: int = 0) -> list[tuple[str, str]]:
    """Returns a question and its answer for each attribute, in the order of ATTRIBUTES; the seed chooses the words."""
    return [
        (
            choose(QUESTIONS[attribute], seed, "question", attribute, scene_index(scene)),
            answer_question(scene, attribute),
        )
        for attribute in ATTRIBUTES
    ]


def write_headline(scene: Scene, about: str = "everything") -> str:
    """Returns the headline, the setting first; "any" stands for what is left open.

    Raises:
        ValueError: If `about` is not "everything", "object" or "setting".
    """
    require_about(about)
    setting = ANY_SETTING if about == "object" else f"{scene.background} {scene.texture} background"
    thing = (
        ANY_OBJECT if about == "setting" else f"{scene.size} {scene.colour} {scene.shape}, {scene.position}"
    )
    return f"{setting}, {thing}"


def draw_scene_agreeing_with(scene: Scene, about: str, seed: int, split: str = "train") -> Scene:
    """Returns a scene of a split with the same stated attributes, the open ones drawn at random.

    Where the split has none, the scene itself is returned.
    """
    require_about(about)
    fixed = ABOUT[about]
    agreeing = _groups(split, fixed).get(tuple(getattr(scene, a) for a in fixed), [scene])
    return choose(agreeing, seed, "agreeing", about, scene_index(scene))


def rephrase(scene: Scene, seed: int) -> Task:
    """Text to text: a caption, to be said in another phrasing, which the prompt names: one right answer."""
    source = draw_phrasing(scene, seed)
    others = [name for name in PHRASINGS if name != source]
    target = choose(others, seed, "rephrase", scene_index(scene))
    prompt = f"say it {PHRASINGS[target].request}: {write_caption(scene, source)}"
    return Task("rephrase", None, prompt, write_caption(scene, target), scene)


def change(scene: Scene, seed: int) -> Task:
    """Text to text: a caption with one attribute to be changed, in the same phrasing."""
    phrasing = draw_phrasing(scene, seed)
    target = choose(_neighbours(scene, ATTRIBUTES, single=True), seed, "change", scene_index(scene))
    attribute = next(a for a in ATTRIBUTES if getattr(scene, a) != getattr(target, a))
    prompt = f"change the {attribute} to {getattr(target, attribute)}: {write_caption(scene, phrasing)}"
    return Task("change", None, prompt, write_caption(target, phrasing), target)


def answer_text(scene: Scene, seed: int) -> Task:
    """Text to text: a caption and a question about one attribute."""
    question, answer = choose(questions(scene, seed), seed, "answer_text", scene_index(scene))
    prompt = f"{question} {write_caption(scene, draw_phrasing(scene, seed))}"
    return Task("answer_text", None, prompt, answer, scene)


def describe(scene: Scene, seed: int) -> Task:
    """Picture to text: the full caption, in a phrasing which the prompt names."""
    phrasing = draw_phrasing(scene, seed)
    prompt = f"describe the picture {PHRASINGS[phrasing].request}"
    return Task("describe", scene, prompt, write_caption(scene, phrasing), scene)


def answer_picture(scene: Scene, seed: int) -> Task:
    """Picture to text: a question about one attribute."""
    question, answer = choose(questions(scene, seed), seed, "answer_picture", scene_index(scene))
    return Task("answer_picture", scene, question, answer, scene)


def borrow_style(scene: Scene, seed: int) -> Task:
    """Picture and text to text: the object of the prompt in the style of the picture, its background and texture."""
    target = choose(_neighbours(scene, ABOUT["object"]), seed, "borrow_style", scene_index(scene))
    prompt = f"a {target.size} {target.colour} {target.shape} {PLACES[target.position]} in the style of the picture"
    return Task("borrow_style", scene, prompt, write_caption(target), target)


def borrow_object(scene: Scene, seed: int) -> Task:
    """Picture and text to text: the object of the picture before the background of the prompt."""
    target = choose(_neighbours(scene, ABOUT["setting"]), seed, "borrow_object", scene_index(scene))
    prompt = f"the object of the picture on a {target.texture} {target.background} background"
    return Task("borrow_object", scene, prompt, write_caption(target), target)


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
    chosen = [choose(words, seed, "repeat", scene_index(scene), place) for place in range(count)]
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
    other = choose(pool, seed, "ignored", scene_index(scene))
    return Task(
        "ignore_picture", other, write_partial(scene, "everything", seed), write_headline(scene), scene
    )


TASKS: dict[str, Callable[[Scene, int], Task]] = {
    make.__name__: make
    for make in (rephrase, change, answer_text, describe, answer_picture, borrow_style, borrow_object)
}
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
