"""Controls of an experiment: which cells there are, what they share, and that nothing else is renamed."""

from collections import Counter

import pytest

from graftwork.core.errors import DesignError
from graftwork.design.controls import join_words
from graftwork.design.families import experiment_of_family
from graftwork.design.parameters import BASELINE_PARAMETERS
from graftwork.design.settings import Family, Words
from tests.unit.design.designs import expand, experiment

AXES = {"alpha": [0.0, 0.5, 1.0], "hidden_layer": [-2, -4]}
WORDS = {"questions": ["which colour?"], "join": "{1}: {prompt}", "max_new_tokens": 5}


@pytest.fixture
def design(tmp_path):
    return expand(tmp_path, {**experiment(AXES), "controls": ["noise", "words"]})


def kinds(design):
    return Counter((cell.role, cell.shown.get("control")) for cell in design.cells)


def test_controls_rename_no_cell_and_no_baseline(tmp_path, design):
    plain = expand(tmp_path, experiment(AXES))
    own = [(cell.cell, cell.role, cell.parameters) for cell in design.cells if cell.role != "control"]
    assert own == [(cell.cell, cell.role, cell.parameters) for cell in plain.cells]
    places = [(indices[:-1], name) for indices, name in design.positions if indices[-1] == 0]
    assert places == plain.positions


def test_noise_is_of_each_cell_and_words_are_shared(design):
    cells = [cell for cell in design.cells if cell.role == "cell"]
    grafted = [cell for cell in cells if cell.parameters["alpha"]]
    shared = {
        (cell.parameters["prompt"], cell.parameters["seed"], cell.parameters["reference"]) for cell in cells
    }
    assert kinds(design)["control", "noise"] == len(grafted)
    assert kinds(design)["control", "words"] == len(shared)


def test_a_control_is_its_cell_but_for_the_control(design):
    by_name = {cell.cell: cell for cell in design.cells}
    cell_at = {tuple(indices[:-1]): by_name[name] for indices, name in design.positions if not indices[-1]}
    labels = design.axes[-1].labels
    assert (design.axes[-1].name, labels) == ("control", ["none", "noise", "words"])
    for indices, name in design.positions:
        member, cell = by_name[name], cell_at[tuple(indices[:-1])]
        others = {key: value for key, value in member.parameters.items() if key != "control"}
        match labels[indices[-1]]:
            case "noise":
                assert others == cell.parameters
                assert (member is cell) == (cell.parameters["alpha"] == 0.0)
            case "words":
                assert others["alpha"] == 0.0
                for key in ("encoder", "reference", "text_encoder", *BASELINE_PARAMETERS):
                    assert others[key] == cell.parameters[key]
        assert design.baselines[name] == design.baselines[cell.cell]


def test_each_seed_of_noise_makes_a_control(tmp_path):
    design = expand(tmp_path, {**experiment(AXES), "controls": ["noise"], "noise_seeds": [3, 4]})
    assert kinds(design)["control", "noise 3"] == kinds(design)["control", "noise 4"] > 0
    assert design.axes[-1].values == [None, {"noise": 3}, {"noise": 4}]


def test_words_of_no_reference_are_the_text_alone(tmp_path):
    raw = experiment({"alpha": [0.5]}, {"references": [None, "house"]})
    design = expand(tmp_path, {**raw, "controls": ["words"]})
    role_of = {cell.cell: cell.role for cell in design.cells}
    assert {role_of[name] for indices, name in design.positions if indices[-1]} == {"baseline", "control"}


def test_what_is_asked_is_part_of_a_control_and_not_of_a_cell(tmp_path):
    raw = {**experiment(AXES), "controls": ["words"]}
    one, two = (
        expand(tmp_path, {**raw, "words": {**WORDS, "join": join}})
        for join in ("{1} {prompt}", "{prompt} {1}")
    )
    for role, same in (("cell", True), ("baseline", True), ("control", False)):
        names = [{cell.cell for cell in design.cells if cell.role == role} for design in (one, two)]
        assert (names[0] == names[1]) == same


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"controls": ["noise", "noise"]}, "'noise' occurs more than once"),
        ({"controls": ["noise"], "noise_seeds": [1, 1]}, "1 occurs more than once"),
        ({"controls": ["words"], "words": {**WORDS, "join": "{1}"}}, "prompt in braces once"),
        ({"controls": ["words"], "words": {**WORDS, "join": "{prompt} {2}"}}, "number of each question"),
        ({"controls": ["sound"]}, "sound"),
    ],
)
def test_what_is_refused(tmp_path, keys, said):
    with pytest.raises(DesignError) as refused:
        expand(tmp_path, {**experiment(AXES), **keys})
    assert said in str(refused.value)


def test_words_need_a_reference(tmp_path):
    raw = experiment({"alpha": [0.5]}, {"references": []})
    with pytest.raises(DesignError, match="give base"):
        expand(tmp_path, {**raw, "controls": ["words"]})


def test_a_family_says_what_is_asked_where_the_experiment_does_not():
    families = {"small": Family(encoders={}, words=Words.model_validate(WORDS))}
    raw = {"base": {"prompts": ["a"]}, "controls": ["words"]}
    assert experiment_of_family(raw, "small", families, "f")["words"] == WORDS
    own = {**raw, "words": {**WORDS, "questions": ["where?"]}}
    assert experiment_of_family(own, "small", families, "f")["words"] == own["words"]
    assert "words" not in experiment_of_family({"base": {}}, "small", families, "f")


def test_braces_of_a_prompt_are_braces():
    assert (
        join_words("{prompt} of a {1} {2} wall", "a {1} b", ["dotted", "{2}"])
        == "a {1} b of a dotted {2} wall"
    )
