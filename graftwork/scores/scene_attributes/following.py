"""Whether an attribute of an image follows the prompt, or the reference.

For one attribute of one cell there are up to three values: p of the prompt (open where the caption does not state the
attribute), r of the reference (none without a reference), and v, what the reader finds in the image.

    follows_prompt     1 if v = p, else 0; counted where the prompt states the attribute.
    follows_reference  1 if v = r, else 0; counted where there is a reference and the prompt does not state r: it
                       states another value, or leaves the attribute open. Where prompt and reference agree, nobody
                       can say which of the two an image followed.

Where p and r differ at most one of the two is 1, and both are 0 for a third value. Where they agree,
follows_prompt alone is counted. It says that the image is right, not why; `stand` keeps these cases apart.

Chance is the share that an image would reach that has nothing to do with prompt or reference, one whose scene is drawn
uniformly from all scenes. The only rule of the world is that an object does not have the colour of its background.
Each colour is left with the same number of backgrounds and each background with the same number of colours, so that
every value of an attribute with k values belongs to exactly 1 / k of the scenes, and chance is 1 / k for both measures.
It is counted here over all scenes. Two other levels can be read off the data: the baseline (alpha 0) shows how often an
image that never saw the reference meets it, and where an image follows the prompt in everything, follows_reference is 0
wherever the prompt states another value.
"""

from collections import Counter
from functools import cache

from graftwork.scenes.world import ATTRIBUTES, VOCABULARY, all_scenes

# What the prompt says of an attribute, seen from the reference.
DIFFERS = "differs"
AGREES = "agrees"
OPEN = "open"
NO_REFERENCE = "no_reference"
STANDS = (DIFFERS, AGREES, OPEN, NO_REFERENCE)


def stand(prompt: str | None, reference: str | None) -> str:
    """Returns what the prompt says of an attribute, seen from the reference: one of STANDS.

    Args:
        prompt: value that the prompt states, or None where it leaves the attribute open.
        reference: value in the reference, or None without a reference.
    """
    if prompt is None:
        return OPEN
    if reference is None:
        return NO_REFERENCE
    return AGREES if prompt == reference else DIFFERS


def follows_prompt(value: str, prompt: str | None) -> int | None:
    """Returns whether a reading is what the prompt states: 1 or 0, or None where it states nothing."""
    return None if prompt is None else int(value == prompt)


def follows_reference(value: str, prompt: str | None, reference: str | None) -> int | None:
    """Returns whether a reading is the reference's value: 1 or 0, or None where that would say nothing."""
    return None if reference is None or prompt == reference else int(value == reference)


@cache
def chance_levels() -> dict[str, dict[str, float]]:
    """Returns attribute -> value -> the share of all scenes that have it."""
    scenes = all_scenes()
    counts = {attribute: Counter(getattr(scene, attribute) for scene in scenes) for attribute in ATTRIBUTES}
    return {
        attribute: {value: counts[attribute][value] / len(scenes) for value in values}
        for attribute, values in VOCABULARY.items()
    }
