"""The corpora that maps are fitted on and judged by, from seeded grammars.

Held-out prompts are of the same grammar with another seed, and none of them is in the corpus that maps are fitted on. No
prompt of either is in config/prompts/ or another corpus, so that experiments can take those.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from graftwork.design.corpora import CORPUS_FOLDER
from graftwork.scenes.captions import draw_phrasing, write_caption, write_partial
from graftwork.scenes.everyday import everyday_prompts
from graftwork.scenes.world import sample_scenes

PROMPT_FOLDER = "config/prompts"
_HEAD = {
    "everyday": "# Everyday subjects, from the grammar in graftwork/scenes/everyday.py; texts of this project, CC0.",
    "everyday_held_out": "# As everyday.yaml, with another seed and none of its prompts: what maps are judged by.",
    "scenes": "# Captions that the miniature was trained on: full ones in every phrasing, of an object or a setting alone.",
    "scenes_held_out": "# As scenes.yaml, of all scenes, those that training never sees included: what maps are judged by.",
}
_SEEDS = {"everyday": 1, "everyday_held_out": 2, "scenes": 3, "scenes_held_out": 4}
_COUNTS = {"everyday": 400, "everyday_held_out": 80, "scenes": 320, "scenes_held_out": 64}
# Of so many captions, one is of an object and one of a setting alone.
_PARTIAL_EVERY = 8


def corpus_files(root: Path) -> dict[str, str]:
    """Returns path -> content of the generated corpora.

    Args:
        root: working directory; its prompts and its other corpora have none of these texts.
    """
    taken = set(_texts(root))
    files = {}
    for name, head in _HEAD.items():
        if name.startswith("everyday"):
            prompts = everyday_prompts(_SEEDS[name], _COUNTS[name], sorted(taken))
        else:
            prompts = _captions(_SEEDS[name], _COUNTS[name], "all" if "held" in name else "train", taken)
        taken |= set(prompts)
        lines = yaml.safe_dump(
            {"prompts": prompts}, width=10_000, allow_unicode=True, sort_keys=False, default_flow_style=False
        )
        regenerate = "# Generated: python -m workflow_scripts.write_corpora --fix"
        files[f"{CORPUS_FOLDER}/{name}.yaml"] = f"{head}\n{regenerate}\n{lines}"
    return files


def _captions(seed: int, count: int, split: str, taken: Iterable[str]) -> list[str]:
    """Returns different captions of scenes of a split."""
    found: dict[str, None] = {}
    for number, scene in enumerate(sample_scenes(seed, 2 * count, split)):
        about = {0: "object", 1: "setting"}.get(number % _PARTIAL_EVERY, "everything")
        text = (
            write_caption(scene, draw_phrasing(scene, seed))
            if about == "everything"
            else write_partial(scene, about, seed)
        )
        if text not in taken:
            found.setdefault(text)
    return list(found)[:count]


def _texts(root: Path) -> Iterable[str]:
    """Yields every text in the files of prompts and of other corpora."""
    for folder in (PROMPT_FOLDER, CORPUS_FOLDER):
        for file in sorted((root / folder).glob("*.yaml")):
            if folder == PROMPT_FOLDER or file.stem not in _HEAD:
                yield from _strings(yaml.safe_load(file.read_text(encoding="utf-8")))


def _strings(node: Any) -> Iterable[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict | list):
        for item in node.values() if isinstance(node, dict) else node:
            yield from _strings(item)
