"""Studies: what they read exists, what they say follows from the numbers, and no claim is shown as a result."""

import csv
import io
import logging
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from PIL import Image

from graftwork.core.code_digest import REPOSITORY
from graftwork.core.records import read_record, write_record
from graftwork.core.tables import write_table
from graftwork.jobs.study import write_study
from graftwork.models.tokens import ROLE_CODES
from graftwork.reports.index import Card
from graftwork.scores.artifacts import comb, log_spectrum, luminance
from graftwork.statistics.analysis import ReadInput
from graftwork.statistics.dimensions import LABELS, compare_dimensions
from graftwork.store.layout import Store
from graftwork.studies import artifacts, claims, content_override, dimensions, models, variants
from graftwork.studies.listing import list_studies
from graftwork.studies.material import Material, ModelFiles
from graftwork.studies.readings import paired_difference, share_of
from graftwork.studies.registry import studies
from graftwork.studies.report import Made, Part, StudyReport, Table, render_report
from tests.unit.design.designs import expand, experiment

ATTRIBUTES = ("background", "shape")


@pytest.mark.parametrize("name", studies())
def test_what_a_study_reads_ships(name):
    study = studies()[name]
    for folder, names in (
        ("experiments", (*study.experiments, *study.designs)),
        ("statistics", study.analyses),
    ):
        for one in names:
            raw = yaml.safe_load((REPOSITORY / f"config/{folder}/{one}.yaml").read_text(encoding="utf-8"))
            assert "?" in raw["question"]
            if raw.get("families"):
                assert "published" in raw["families"]
    assert study.question.endswith("?")


def test_the_share_of_readings_counts_prompts_not_attributes():
    cells = [
        {"prompt": prompt, "image": f"{prompt}.png", "a": str(int(prompt != "q")), "b": "1"}
        for prompt in "pqrs"
    ]
    share = share_of(cells, ["a", "b", "missing"])
    assert (share.follows, share.n) == (7, 8)
    assert 0 < share.low < share.value < share.high <= 1
    assert share_of([{**cell, "a": ""} for cell in cells], ["a"]) is None


def test_a_paired_difference_says_what_would_have_been_seen():
    found = paired_difference([0.1, -0.1, 0.1, -0.1], ["p", "q", "r", "s"])
    assert found.mean == 0
    assert found.low < 0 < found.high
    # 2.8 standard errors of the mean of four.
    assert found.detectable == pytest.approx(2.8016 * np.std([0.1, -0.1, 0.1, -0.1], ddof=1) / 2, rel=1e-3)
    alone = paired_difference([0.1], ["p"])
    assert math.isnan(alone.low)
    assert "no interval" in alone.text


# content_override


def readings(follows_reference: bool, names_background: bool = True) -> dict[str, str]:
    found = {
        **{f"follows_prompt_{one}": str(int(not follows_reference)) for one in ATTRIBUTES},
        **{f"follows_reference_{one}": str(int(follows_reference)) for one in ATTRIBUTES},
    }
    return found if names_background else found | {"follows_prompt_background": ""}


OPEN = ("boat", "cat", "dog", "elk", "fox", "gnu")
NAMED = ("hen", "ibis", "jay", "kid", "lynx", "mole")


def override_material(folder: Path, arrives) -> Material:
    """Cells of which those follow the reference for which `arrives(setting, control, is_open)` says so.

    Prompts of `OPEN` name no background.
    """
    settings = {
        "text_tokens": {"token_mode": "text_only"},
        "text_tokens_layer_-4": {"token_mode": "text_only", "hidden_layer": -4},
        "all_tokens": {"token_mode": "full"},
    }
    prompts = [{"name": name, "text": f"a {name}"} for name in OPEN + NAMED]
    raw = experiment(None, {"prompts": prompts, "alpha": 1.0}, settings=settings, controls=["noise", "words"])
    design = expand(folder, raw, content_override.EXPERIMENT)
    results = folder / "results" / content_override.EXPERIMENT
    write_record(results / "design.json", design.written)
    rows = []
    for cell in design.cells:
        kind, setting = cell.shown.get("control") or "none", cell.shown.get("setting") or ""
        prompt = cell.parameters["prompt"]
        is_open = prompt.removeprefix("a ") in OPEN
        follows = cell.role != "baseline" and arrives(setting, kind, is_open)
        plain = {"cell": cell.cell, "role": cell.role, "status": "done", "image": f"{cell.cell}.png"}
        rows.append({**plain, "prompt": prompt, "reference": "picture", **readings(follows, not is_open)})
    (results / "cells_full.csv").write_text(write_table(rows))
    return Material(
        folder / "results", "miniature", Store(folder / "store"), (), (content_override.EXPERIMENT,)
    )


def test_a_picture_that_fills_what_the_prompt_leaves_open_is_found(tmp_path):
    material = override_material(
        tmp_path,
        lambda setting, control, is_open: (
            control == "words" or (is_open and setting == "text_tokens" and control == "none")
        ),
    )
    report = content_override.write(material)
    carry, override, layer, words = report.answers
    assert "carry it? Yes" in carry
    assert "6 of 6" in carry
    assert "override the prompt? No" in override
    assert "0 of 6" in override
    assert "Most from layer -2" in layer
    assert "worth more than words? No" in words
    assert {"prompt", "open", "override"} == set(report.plots)
    assert "12 prompts, 6 of which name no background" in report.about
    (strip,) = (part.strip for part in report.parts if part.strip)
    assert [heading for heading, _ in strip][:2] == ["text alone", "text tokens"]


def test_a_picture_that_overrides_the_prompt_is_found(tmp_path):
    report = content_override.write(
        override_material(tmp_path, lambda setting, control, is_open: control == "none" and not is_open)
    )
    text = " ".join(report.answers)
    assert "carry it? No" in text
    assert "override the prompt? Yes" in text


def test_noise_that_does_the_same_is_no_effect_of_the_picture(tmp_path):
    report = content_override.write(
        override_material(tmp_path, lambda setting, control, is_open: control != "words")
    )
    text = " ".join(report.answers)
    assert "carry it? No" in text
    assert "override the prompt? No" in text
    assert "worth more than words? Yes" in text


def test_without_readings_nothing_is_answered(tmp_path):
    material = override_material(tmp_path, lambda setting, control, is_open: False)
    file = tmp_path / "results" / content_override.EXPERIMENT / "cells_full.csv"
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    file.write_text(
        write_table([{k: v for k, v in row.items() if not k.startswith("follows")} for row in rows])
    )
    (answer,) = content_override.write(material).answers
    assert "No image of this experiment has been read" in answer


# variants


def variant_cells(second: float) -> list[dict[str, str]]:
    """Pairs whose second encoder follows the prompt in a share of the attributes."""
    return [
        {
            "prompt": prompt,
            "reference": "r",
            "seed": "1",
            "alpha": alpha,
            "setting": setting,
            "encoder": encoder,
            "follows_prompt_a": "1",
            "follows_prompt_b": "1" if encoder == "one" or second == 1 else "0",
        }
        for prompt in ("p", "q", "r", "s", "t", "u")
        for alpha in ("0.5", "1")
        for setting in ("x", "y")
        for encoder in ("one", "two")
    ]


def test_pairs_differ_in_the_encoder_alone():
    pairs = variants._pairs(variant_cells(1.0), ["one", "two"])
    assert len(pairs) == 24
    for one, two in pairs:
        assert {**one, "encoder": "", "follows_prompt_b": ""} == {
            **two,
            "encoder": "",
            "follows_prompt_b": "",
        }


@pytest.mark.parametrize(
    ("second", "said"),
    [(1.0, "it is not known what would have been seen"), (0.0, "Yes, one and two condition")],
)
def test_the_verdict_on_two_checkpoints_follows_from_the_pairs(second, said):
    found = variants._differences(variant_cells(second), ["one", "two"])
    assert said in variants._verdict(["one", "two"], found)


# dimensions


def sides(factor: float) -> dimensions.Sides:
    """Texts of which the donor has one dimension that is larger, and another mean everywhere."""
    random = np.random.default_rng(1)
    host, donor = [], []
    for _ in range(12):
        states = random.normal(size=(20, 16)).astype(np.float32)
        roles = np.full(20, ROLE_CODES["prompt"], dtype=np.uint8)
        ids = np.arange(20)
        other = states + 0.01 * random.normal(size=states.shape).astype(np.float32)
        other[:, 3] *= factor
        host.append(ReadInput(states, roles, ids))
        donor.append(ReadInput(other, roles, ids))
    return dimensions.Sides(donor, host)


def test_a_fix_is_judged_on_texts_that_it_was_not_fitted_on():
    both = sides(8.0)
    rows = {
        row["fix"]: row for row in dimensions._judge_fixes(both.half(second=False), both.half(second=True))
    }
    assert rows["none"]["outliers"] == "1"
    assert rows["rescale"]["outliers"] == rows["full"]["outliers"] == "0"
    assert float(rows["rescale"]["cosine"]) > float(rows["none"]["cosine"])
    assert len(both.half(second=False).donor) == len(both.half(second=True).donor) == 6


def test_outliers_of_every_text_are_told_from_those_of_some():
    assert dimensions._by_prompt(sides(8.0))["consistent"] == 1
    assert dimensions._by_prompt(sides(1.0)) == {"prompts": 12, "consistent": 0, "specific": 0, "none": 16}


def test_attention_finds_the_dimension_that_was_changed():
    found = dimensions._attention(sides(8.0))
    assert found["inputs"] == 12
    assert next(iter(found["dimensions"])) == 3


def test_the_plot_of_kinds_says_where_a_dimension_is_out_of_the_ordinary():
    host = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 9.0, 9.0, 0.001, 0.5])
    donor = np.array([1.0, 4.0, 0.2, 1.0, 1.0, 9.0, 40.0, 0.001, 0.001])
    compared = compare_dimensions(donor, host)
    (panel,) = dimensions._categories(compared, 9).panels
    (series,) = panel.series
    assert dict(zip(panel.y.names, series.labels, strict=True)) == {
        "dead, in both": "1",
        "dead, in the embedding model alone": "1",
        "dead, in the text encoder alone": "0",
        "hyperactive, in both": "2",
        "hyperactive, in the embedding model alone": "0",
        "hyperactive, in the text encoder alone": "0",
        "outlier, larger in the embedding model": "2",
        "outlier, larger in the text encoder": "2",
    }
    assert [count for count, _ in series.points] == [float(label) for label in series.labels]


@pytest.mark.parametrize(("met", "said"), [(6, "Yes"), (4, "In part"), (3, "No")])
def test_the_verdict_on_corrections_is_against_none(met, said):
    host = np.linspace(0.9, 1.1, 16)
    of = [SimpleNamespace(channels=16, std=host)] * 2
    fixes = [{"fix": "none", "criteria met": "3 of 6"}, {"fix": "full", "criteria met": f"{met} of 6"}]
    counts = dict.fromkeys(LABELS, 0)
    _, answer = dimensions._answers(compare_dimensions(host, host), *of, counts, fixes, {})
    assert answer.startswith(f"Do the corrections bring them back? {said}: ")


def test_outliers_that_are_hyperactive_too_are_counted_as_unlike():
    host = np.linspace(0.9, 1.1, 16)
    donor = host.copy()
    donor[:2] = 4.0, 40.0  # An outlier, and one that is hyperactive as well.
    of = [SimpleNamespace(channels=16, std=one) for one in (donor, host)]
    compared = compare_dimensions(donor, host)
    counts = {name: int((compared.label_a == name).sum()) for name in LABELS}
    (answer,) = dimensions._answers(compared, *of, counts, [], {})
    assert answer.startswith("Which dimensions are unlike? 2 of 16 have")


# artifacts


def test_a_planted_grid_moves_the_measure_of_grids():
    pixels = np.random.default_rng(0).integers(60, 190, (128, 128, 3)).astype(np.uint8)
    values = [
        comb(log_spectrum(luminance(artifacts.plant(pixels, amplitude))), 16)
        for amplitude in (0.0, 8.0, 32.0)
    ]
    assert values[0] < values[1] < values[2]
    assert np.array_equal(artifacts.plant(pixels, 0.0), pixels)


@pytest.mark.parametrize("measure", artifacts.MEASURES, ids=lambda one: one.name)
def test_a_planted_artifact_makes_its_measure_worse_the_more_there_is_of_it(measure, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    cells = []
    for number in range(3):
        smooth = artifacts.blur(random.integers(0, 256, (96, 96, 3)).astype(np.uint8), 2.0)
        Image.fromarray(smooth).save(f"{number}.png")
        cells.append({"image": f"{number}.png"})
    scale = artifacts._planted_scale(measure, cells)
    differences = [value for _, value, _ in scale]
    assert differences[0] == 0
    assert differences == sorted(differences)
    assert differences[-1] > 0.1
    found = artifacts.Findings(measure, {}, {}, scale, ())
    assert found.as_planted(0.0) == "none"
    assert found.as_planted(differences[2]) == measure.planted.format(f"{measure.sizes[2]:.1f}")
    assert found.as_planted(differences[-1] + 1).startswith("more than")


def artifact_cells(worse: float) -> list[dict[str, str]]:
    """Cells of one setting beside their baselines, with a comb that is larger."""
    rows = []
    for number in range(8):
        plain = {"status": "done", "prompt": f"p{number}", "image": f"{number}.png"}
        rows.append({**plain, "cell": f"b{number}", "role": "baseline", "setting": "", "comb": str(number)})
        comb = str(number + worse)
        rows.append({**plain, "cell": f"c{number}", "role": "cell", "setting": "all", "comb": comb})
    return rows


@pytest.mark.parametrize(
    ("worse", "said"), [(0.5, "in 1 of 1 settings (all)"), (0.0, "in none of 1 settings")]
)
def test_an_artifact_is_said_to_be_there_where_it_is_seen(worse, said, monkeypatch):
    monkeypatch.setattr(artifacts, "_planted_scale", lambda *_: [(0.0, 0.0, 8), (4.0, 1.0, 8)])
    baselines = {f"c{number}": f"b{number}" for number in range(8)}
    answer = artifacts._answer(artifacts._find(artifacts.MEASURES[0], artifact_cells(worse), baselines))
    assert said in answer
    assert ("a grid of 2.0 grey levels" in answer) == bool(worse)


# claims


def test_a_claim_about_a_checkpoint_is_not_decided_by_another(tmp_path):
    claim = replace(claims.CLAIMS[0], measure=lambda material: 2560, holds=claims.near(2560, 0.0))
    material = Material(tmp_path, "miniature", Store(tmp_path))
    row = claims._row(claim, material)
    assert (row["measured here"], row["held"]) == ("2560", "needs the real checkpoint")
    assert row["target"].endswith("--config family=published")
    assert claims._row(claim, replace(material, family="published"))["held"] == "yes"
    other = replace(claim, measure=lambda material: 128)
    assert claims._row(other, replace(material, family="published"))["held"] == "no"


def test_a_claim_that_cannot_be_measured_says_why(tmp_path):
    def measure(material):
        raise claims.NotMeasured("no such model is here")

    row = claims._row(
        replace(claims.CLAIMS[0], measure=measure), Material(tmp_path, "published", Store(tmp_path))
    )
    assert (row["measured here"], row["held"]) == ("no such model is here", "needs the real checkpoint")


def test_every_claim_has_a_file_and_a_line():
    for claim in claims.CLAIMS:
        file, commit = claim.source
        assert file.endswith(".md")
        assert len(commit) == 7
        assert claim.line > 0


# models


@pytest.fixture(scope="module")
def shipped_models(tmp_path_factory):
    """The models of the miniature, whose configurations ship."""
    entries = yaml.safe_load((REPOSITORY / "config/models.yaml").read_text(encoding="utf-8"))
    found = [
        ModelFiles(kind, name, name, REPOSITORY / entry["path"], entry)
        for kind in ("encoder", "generator")
        for name, entry in entries[f"{kind}s"].items()
        if "path" in entry
    ]
    return Material(tmp_path_factory.mktemp("results"), "miniature", Store("none"), tuple(found))


def test_models_are_told_apart_by_what_generators_of_any_family_take(shipped_models):
    report = models.compare_models(shipped_models)
    first = report.answers[0]
    generators = [model.name for model in shipped_models.models if model.kind == "generator"]
    assert len(generators) > 1
    for name in generators:
        assert name in first
    assert "width 128" in first
    assert "None" not in "".join(report.answers)
    (table,) = (part.table for part in report.parts if part.heading == "Generators")
    assert all(value not in (None, "none") for row in table.rows for value in row)


def test_a_tokenizer_that_adds_a_token_has_the_same_vocabulary(shipped_models):
    report = models.compare_models(shipped_models)
    (line,) = (answer for answer in report.answers if "token ids" in answer)
    assert line.startswith("Equal texts are equal token ids in all of them")
    assert "miniature-qwen3-embedding adds <|endoftext|>" in line


# The report


def test_a_report_says_the_answer_first_and_escapes_what_it_says():
    report = StudyReport(
        ["It | does.", "Does it? Yes, it does."],
        ["Not *here*."],
        [
            Part(
                "Part",
                ["text"],
                Table(["a", "b"], [["1", None]]),
                strip=[("one", "1.png"), ("two", "2.png")],
                code=["<think>"],
            )
        ],
        about="Six images.",
    )
    text = render_report(
        "Title", "Why?", report, Made(["study_x"], [("m", "id")], {"torch": "1"}, {"corpus": "36"})
    )
    assert "\n* **Does it?** Yes, it does.\n" in text
    assert "| one | two |\n| --- | --- |\n| ![one](1.png) | ![two](2.png) |\n" in text
    assert (
        text.index("Six images.")
        < text.index("It \\| does.")
        < text.index("Not \\*here")
        < text.index("## Part")
        < text.index("```\nstudy_x\n```")
    )
    assert "<think>" in text


def test_the_job_writes_report_page_tables_and_plots(tmp_path, monkeypatch):
    material = override_material(tmp_path, lambda setting, control, is_open: control == "none")
    monkeypatch.chdir(tmp_path)
    (material.results / content_override.EXPERIMENT / "grids").mkdir()

    class Models:
        def names(self, kind):
            return []

    class Settings:
        family, models = "miniature", "config/models.yaml"

    class Project:
        settings, models, roles = Settings(), Models(), {}

    folder = tmp_path / "results/studies/content_override"
    (folder / "plots").mkdir(parents=True)
    (folder / "plots/old.png").write_bytes(b"")
    write_study(studies()["content_override"], Project(), folder, logging.getLogger())
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {
        "report.md",
        "report.html",
        "report.json",
        ".card.json",
        "settings.csv",
        "plots/prompt.png",
        "plots/open.png",
        "plots/override.png",
    }
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png") == 3
    assert "study_content_override" in page
    card = read_record(Card, folder / ".card.json")
    assert card.title == studies()["content_override"].title
    assert 1 <= len(card.headlines) <= 2


def test_every_study_is_listed_with_its_target_and_its_size():
    class Project:
        def design(self, name):
            return type("Design", (), {"cells": [type("Cell", (), {"role": "cell"})()] * 3})

    lines = list_studies(Project())
    for name, study in studies().items():
        (line,) = (line for line in lines if line.startswith(f"study_{name} "))
        assert study.title in line
        assert ("3 cells" in line) == bool(study.experiments)
    assert "no images" in next(line for line in lines if line.startswith("study_models"))
