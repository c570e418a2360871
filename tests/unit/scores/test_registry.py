"""Scores as a part of experiments: by name, refused where unknown, and no part of any identity."""

import re
from dataclasses import replace

import pytest

from graftwork.core.code_digest import REPOSITORY
from graftwork.core.errors import DesignError
from graftwork.scenes.world import render_scene
from graftwork.scores.registry import digest_of, register, score_of_summary, scores
from tests.unit.design.designs import expand, experiment
from tests.unit.scores.scored import CAPTIONS, SHOWN, save_picture

FILE = "config/experiments/test.yaml"


def test_the_registered_scores():
    assert list(scores()) == ["scene_attributes"]
    assert score_of_summary("attributes") is scores()["scene_attributes"]


def test_names_summaries_and_columns_are_taken_once():
    score = scores()["scene_attributes"]
    other = replace(score, name="other", summary="others", columns=("other",))
    for same in (
        replace(other, name=score.name),
        replace(other, summary=score.summary),
        replace(other, columns=("other", score.columns[3])),
    ):
        with pytest.raises(ValueError, match="is taken by score 'scene_attributes'"):
            register(same)
    assert list(scores()) == ["scene_attributes"]


def test_every_stage_has_a_digest_of_its_code():
    digests = {digest_of(["scene_attributes"], stage) for stage in ("measure", "summary", "plot", "describe")}
    assert len(digests) == 4


# Imported by what is listed, but deciding nothing: messages, registration, names.
EXEMPT = {
    "measure": {
        "design.errors",
        "scoring.registry",
        "scoring.attribute_plots",
        "scoring.attribute_summary",
        "scoring.attribute_text",
    },
    "summary": {"design.identity"},
    "plot": {"miniature.world", "scoring.attribute_summary", "scoring.following"},
    "describe": {"scoring.attribute_summary"},
}


@pytest.mark.parametrize("stage", EXEMPT)
@pytest.mark.parametrize("name", list(scores()))
def test_the_digest_of_a_stage_covers_what_its_modules_import(name, stage):
    listed = set(getattr(scores()[name], f"{stage}_code"))
    for part in listed:
        text = REPOSITORY.joinpath(*part.split(".")).with_suffix(".py").read_text(encoding="utf-8")
        imported = set(re.findall(r"^from (workflow_scripts\.lib\.[\w.]+) import", text, re.MULTILINE))
        exempt = {f"workflow_scripts.lib.{module}" for module in EXEMPT[stage]}
        assert imported <= listed | exempt, part


@pytest.mark.parametrize(
    ("asked", "parts"),
    [
        (
            ["scene_atributes"],
            ["scores.0", "'scene_atributes'", "allowed: 'scene_attributes'", "did you mean"],
        ),
        (["clip"], ["scores.0", "'clip'", "allowed: 'scene_attributes'"]),
        ("scene_attributes", ["scores", "allowed: a list"]),
        (["scene_attributes", "scene_attributes"], ["scores", "'scene_attributes' occurs more than once"]),
    ],
)
def test_unknown_scores_are_refused(tmp_path, asked, parts):
    with pytest.raises(DesignError) as error:
        expand(tmp_path, experiment({}, {"prompts": [CAPTIONS["full"]]}, scores=asked))
    for part in [FILE, *parts]:
        assert part in str(error.value)


def test_scores_are_no_part_of_any_identity(tmp_path):
    save_picture(tmp_path / "config" / "references" / "shown.png", render_scene(SHOWN, 128))
    base = {"prompts": list(CAPTIONS.values()), "references": ["shown"]}
    plain = expand(tmp_path, experiment({"alpha": [0.0, 0.5]}, base))
    scored = expand(tmp_path, experiment({"alpha": [0.0, 0.5]}, base, scores=["scene_attributes"]))
    assert (plain.scores, scored.scores) == ([], ["scene_attributes"])
    assert plain.digest == scored.digest
    assert plain.to_json() == scored.to_json()
    assert "scores" not in plain.to_json()
