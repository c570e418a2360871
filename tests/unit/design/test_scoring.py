"""Which scorers an experiment asks: what is resolved, and what is refused before anything runs."""

import pytest

from graftwork.core.errors import DesignError
from graftwork.design.families import experiment_of_family
from graftwork.design.settings import Family
from graftwork.models.catalog import Model
from graftwork.models.families import ScorerFacts
from graftwork.scores.questions import Scoring
from tests.unit.design.designs import expand, experiment, some_models


def models():
    facts = {"judge-4b": "vqa", "likes": "siglip", "shapes": "dinov2"}
    return [
        *some_models(),
        *(
            Model(
                name,
                "scorer",
                {"family": family, "path": "/n"},
                f"content:{name}",
                ScorerFacts(family, 8, None),
            )
            for name, family in facts.items()
        ),
    ]


CHOSEN = {"judge": "judge-4b", "semantic": "likes", "structural": "shapes"}


def test_roles_become_scorers_and_names_of_references_their_content(tmp_path):
    asked = {"scores": ["artifacts", "reference", "adherence"], "scorers": CHOSEN}
    plain = expand(tmp_path, experiment(), models=models())
    design = expand(tmp_path, experiment(**asked, reference_captions={"house": "a house"}), models=models())
    scoring = design.scoring
    assert scoring.scores == ("reference", "adherence")
    assert {role: one.identity for role, one in scoring.scorers.items()} == {
        role: f"content:{name}" for role, name in CHOSEN.items()
    }
    assert scoring.captions == {next(iter(design.references)): "a house"}
    # No identity and no plan of images has anything of it.
    assert (design.digest, [c.cell for c in design.cells]) == (plain.digest, [c.cell for c in plain.cells])
    assert design.written.scoring == Scoring()


@pytest.mark.parametrize(
    ("changes", "base", "parts"),
    [
        (
            {"scorers": {}},
            {},
            ["scores: adherence asks a scorer for the role 'judge'", "judge-4b, likes, shapes"],
        ),
        ({"scorers": {**CHOSEN, "judge": "judge-4a"}}, {}, ["scorers.judge", "'judge-4a'", "judge-4b"]),
        (
            {"scorers": {**CHOSEN, "judge": "likes"}},
            {},
            ["scorers.judge", "family siglip", "adherence needs yes"],
        ),
        ({"scorers": CHOSEN}, {"references": []}, ["scores: reference compares images with references"]),
        (
            {"scorers": CHOSEN, "reference_captions": {"hose": "a"}},
            {},
            ["reference_captions", "'hose'", "house"],
        ),
    ],
)
def test_what_no_scorer_can_answer_is_refused(tmp_path, changes, base, parts):
    raw = experiment(base=base, scores=["adherence", "reference"], **changes)
    with pytest.raises(DesignError) as error:
        expand(tmp_path, raw, models=models())
    for part in ["config/experiments/test.yaml", *parts]:
        assert part in str(error.value)


def test_a_family_of_models_has_scorers_for_its_roles():
    families = {"mine": Family(encoders={}, scorers={"judge": "small", "semantic": "likes"})}
    raw = experiment_of_family({"base": {}, "scorers": {"judge": "large"}}, "mine", families, "file")
    assert raw["scorers"] == {"judge": "large", "semantic": "likes"}
