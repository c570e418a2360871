"""Scores as a part of experiments: by name, refused where unknown, and no part of any identity."""

import re
from dataclasses import replace

import pytest

from graftwork.core.code_digest import REPOSITORY
from graftwork.core.errors import DesignError
from graftwork.core.records import to_json
from graftwork.scenes.world import render_scene
from graftwork.scores import registry
from graftwork.scores.outputs import (
    all_summaries,
    chart_code,
    describe_code,
    measure_code,
    summaries_of,
    summary_code,
)
from graftwork.scores.registry import Column, Score, register, scores
from tests.unit.design.designs import expand, experiment
from tests.unit.scores.scored import CAPTIONS, SHOWN, save_picture

FILE = "config/experiments/test.yaml"


def test_the_registered_scores():
    assert list(scores()) == [
        "adherence",
        "artifacts",
        "clip_text",
        "csd",
        "pickscore",
        "ratings",
        "reference",
        "scene_attributes",
        "siglip_text",
    ]
    assert list(all_summaries()) == ["score_means", "preferences", "attributes_by_setting", "attributes"]


def test_names_tables_and_columns_are_taken_once():
    score = scores()["scene_attributes"]
    column = Column("other", "other")
    others = (replace(score.summaries[0], table="others"),)
    other = replace(score, name="other", summaries=others, columns=(column,))
    for same in (
        replace(other, name=score.name),
        replace(other, summaries=(*others, score.summaries[-1])),
        replace(other, columns=(column, score.columns[3])),
    ):
        with pytest.raises(ValueError, match="is taken by score 'scene_attributes'"):
            register(same)
    for name in ("unscored", "cell", "image"):
        with pytest.raises(ValueError, match=f"'{name}' is a column of every table of scores"):
            register(replace(other, columns=(Column(name, "other"),)))
    assert "other" not in scores()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "name is empty"),
        ({"meaning": ""}, "score 'mine': meaning is empty"),
        ({"columns": ()}, "score 'mine': columns is empty"),
        ({"columns": (Column("my column", "mine"),)}, "column 'my column'; allowed: lower-case letters"),
        ({"columns": (Column("mine", ""),)}, "column 'mine' has no label"),
        ({"measure_image": None}, "give one of measure_image, measure_beside, measure or questions"),
        (
            {"measure": lambda cells, references: []},
            "give one of measure_image, measure_beside, measure or questions",
        ),
    ],
)
def test_what_a_score_does_not_say_fails_where_it_is_defined(changes, message):
    said = {
        "name": "mine",
        "meaning": "A test.",
        "columns": (Column("mine", "mine"),),
        "measure_image": lambda pixels: {"mine": 1.0},
    }
    Score(**said)
    with pytest.raises(ValueError, match=re.escape(message)):
        Score(**{**said, **changes})


def test_every_stage_has_a_digest_of_its_code():
    names = ["scene_attributes"]
    tables = [summary.table for summary in summaries_of(names)]
    digests = {
        measure_code(names),
        describe_code(names),
        chart_code(names),
        *(summary_code(table, names) for table in tables),
    }
    assert len(digests) == 3 + len(tables)


def test_a_unit_is_a_part_of_the_digests(monkeypatch):
    """It is drawn, but it is data: no digest of code sees it."""
    names = ["scene_attributes"]
    score, before = scores()["scene_attributes"], chart_code(names)
    columns = tuple(replace(column, unit="points") for column in score.columns)
    monkeypatch.setitem(registry._SCORES, score.name, replace(score, columns=columns))
    assert chart_code(names) != before


def test_the_name_of_a_score_occurs_in_its_module_alone():
    package = REPOSITORY / "graftwork" / "scores"
    # A parameter of cells is called so too, and a family of scorers may have the name of what it is known for.
    for name in scores().keys() - {"reference"}:
        own = {package / f"{name}.py", *(package / name).rglob("*.py")}
        own |= {REPOSITORY / "graftwork" / "models" / "scorers" / f"{name}.py"}
        # A study that asks about a score may have its name.
        own |= {REPOSITORY / "graftwork" / "studies" / f"{name}.py"}
        code = [
            path
            for folder in ("graftwork", "workflow_scripts")
            for path in (REPOSITORY / folder).rglob("*.py")
        ]
        rules = [REPOSITORY / "Snakefile", *(REPOSITORY / "rules").glob("*.smk")]
        templates = (REPOSITORY / "graftwork").rglob("*.j2")
        quoted = re.compile(rf"""["']{name}["']""")  # A name may be an ordinary word of prose too.
        named = [
            path
            for path in (*code, *rules, *templates)
            if path not in own and quoted.search(path.read_text(encoding="utf-8"))
        ]
        assert named == []


@pytest.mark.parametrize(
    ("asked", "parts"),
    [
        (
            ["scene_atributes"],
            [
                "scores.0",
                "'scene_atributes'",
                "allowed: 'adherence', 'artifacts'",
                "did you mean",
            ],
        ),
        (["clip"], ["scores.0", "'clip'", "allowed: 'adherence', 'artifacts'"]),
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
    assert plain.written == scored.written
    assert "scores" not in to_json(plain.written)
