"""Adding a transform touches one module and its test: everything else follows from the registration.

The modules below are dropped into a copy of the tree, where nothing else is changed. Each question is asked in a process of
its own, for the registry is read when it is imported.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from graftwork.core.code_digest import REPOSITORY
from graftwork.design.project import Project
from graftwork.transforms.registry import transforms

MIDPOINT = '''
"""A blend as somebody might add it."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from graftwork.core.parameters import parameter
from graftwork.transforms.context import Context
from graftwork.transforms.registry import TransformParameters, register

if TYPE_CHECKING:
    import torch


class MidpointParameters(TransformParameters):
    """Parameters of `blend_at_midpoint`."""

    midpoint_share: Annotated[float, Field(ge=0, le=1)] = parameter(
        0.5,
        neutral=0.5,
        label="share of the midpoint",
        unit="of alpha",
        description="How much of the source is in the point that `midpoint` moves to.",
    )


def _problem(parameters):
    return "midpoint_share 0.25 is unlucky; allowed: any other" if parameters["midpoint_share"] == 0.25 else None


@register(
    "blend",
    "midpoint",
    formula="t + alpha * midpoint_share * (v - t)",
    source="nobody",
    parameters=MidpointParameters,
    problem_with=_problem,
    examples={"midpoint": {"midpoint_share": 0.75}},
)
def blend_at_midpoint(
    text: "torch.Tensor",
    source: "torch.Tensor",
    alpha: float,
    parameters: MidpointParameters,
    context: Context,
) -> "torch.Tensor":
    """Moves the text towards a point between text and source."""
    return text + alpha * parameters.midpoint_share * (source - text)
'''

WITH_COVARIANCE = '''
"""A masking as somebody might add it, of a stage in which none takes a covariance so far."""

from graftwork.transforms.context import COVARIANCE, Context
from graftwork.transforms.reference_choice import StatisticsChoice, statistics_parameter
from graftwork.transforms.registry import TransformParameters, register


class CorrelatedParameters(TransformParameters):
    """Parameters of `mask_correlated`."""

    statistics: StatisticsChoice = statistics_parameter()


@register(
    "masking",
    "correlated",
    formula="x_d = 0 where the covariance with dimension 0 is positive",
    source="nobody",
    parameters=CorrelatedParameters,
    needs=(COVARIANCE,),
    examples={"correlated": {}},
)
def mask_correlated(source, parameters: CorrelatedParameters, context: Context):
    """Silences dimensions that go with the first."""
    import torch

    found = torch.from_numpy(context.statistics.require("covariance")[0] > 0)
    return torch.where(found, 0.0, source), [f"{int(found.sum())} silenced"]
'''

CELLS = """
import json, tempfile
from pathlib import Path
import torch
import yaml
from graftwork.core.errors import DesignError
from graftwork.core.records import to_json
from graftwork.design.cells import CorpusRecord
from graftwork.design.describe import SCHEMAS, reference_text, schema_text
from graftwork.design.examples import settings_text
from graftwork.design.parameters import label_of, takes_part
from graftwork.design.project import Project
from graftwork.design.settings import Hardware
from graftwork.planning.keys import Keys
from graftwork.reports.table import parameter_columns
from tests.unit.conditioning.test_build import SOURCE_ROLES, TEXT_ROLES, build_conditioning, recipe, states
from tests.unit.design.designs import expand, experiment

def refusal(value):
    try:
        expand(Path(folder), experiment({}, {"blend": "midpoint", "midpoint_share": value}))
    except DesignError as error:
        return str(error)

said = {}
with tempfile.TemporaryDirectory() as folder:
    axes = {"blend": ["linear", "midpoint"], "midpoint_share": [0.5, 1.0]}
    design = expand(Path(folder), experiment(axes, {"alpha": 0.5}))
    said["refusals"] = [refusal(value) for value in (1.5, 0.25)]
cells = [cell.parameters for cell in design.cells if cell.role == "cell"]
said["cells"] = len({cell.cell for cell in design.cells if cell.role == "cell"})
keys = Keys(design.models, Hardware())
said["recipes"] = [to_json(keys.recipe(cell).stages["blend"]) for cell in cells][:4]
corpus = {"corpus": "c", "encoder": cells[0]["text_encoder"], "hidden_layer": -2, "tokens": "prompt"}
over_corpus = Keys(design.models, Hardware(), {"c": CorpusRecord("c", ("a",), ())})
said["covariance_of"] = [
    over_corpus.stage_statistics({**cells[0], "masking": name, "statistics": corpus}, "masking")["statistics"].parts.covariance_of
    for name in ("zero", "correlated")
]
said["columns"] = parameter_columns(design.cells)
said["label"] = label_of("midpoint_share")
said["reference"] = reference_text().split("### `blend`\\n")[1].split("\\n## ")[0]
said["schema"] = json.loads(schema_text(SCHEMAS["experiment"]))["$defs"]["Base"]["properties"]
said["takes_part"] = [takes_part("midpoint_share", cell) for cell in cells if cell["midpoint_share"] == 1.0][:2]
said["settings"] = settings_text()
project = Project(yaml.safe_load(Path("config/config.yaml").read_text()), Path.cwd())
said["demo"] = [cell.cell for cell in project.design("demo").cells]

text, source = states(TEXT_ROLES), states(SOURCE_ROLES, seed=1)
def build(**chosen):
    return build_conditioning(recipe(alpha=0.5, **chosen), text, source)
made = build(blend="midpoint", midpoint_share=0.5).tensors["prompt_embeds"]
like = build_conditioning(recipe(alpha=0.25, blend="linear"), text, source).tensors["prompt_embeds"]
said["is_like_by_hand"] = torch.allclose(made, like, rtol=1e-5, atol=1e-4)
said["masked"] = build(masking="correlated").report.masked_dimensions
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The tree with the two modules in it."""
    root = tmp_path_factory.mktemp("copy")
    for name in ("graftwork", "tests", "lab", "workflow_scripts", "config"):
        shutil.copytree(REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "resources").symlink_to(REPOSITORY / "resources")
    (root / "graftwork/transforms/midpoint.py").write_text(MIDPOINT)
    (root / "graftwork/transforms/correlated.py").write_text(WITH_COVARIANCE)
    return root


def run(root: Path, program: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def answer(root: Path, program: str):
    done = run(root, program)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def said(copy):
    return answer(copy, CELLS)


def test_nothing_of_them_is_here():
    assert "midpoint" not in transforms("blend")
    assert "correlated" not in transforms("masking")


def test_cells_that_exist_keep_their_names(said, tmp_path, monkeypatch):
    for name in ("config", "resources"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    monkeypatch.chdir(tmp_path)
    project = Project(yaml.safe_load(Path("config/config.yaml").read_text()), tmp_path)
    assert said["demo"] == [cell.cell for cell in project.design("demo").cells]


def test_experiments_may_choose_it(said):
    assert "midpoint" in said["schema"]["blend"]["enum"]
    assert "correlated" in said["schema"]["masking"]["enum"]
    assert said["schema"]["midpoint_share"]["maximum"] == 1
    # For each of two prompts: both blends at both shares.
    assert said["cells"] == 2 * 4
    bounds, own = said["refusals"]
    assert "config/experiments/test.yaml: base.midpoint_share: 1.5 is not allowed" in bounds
    assert own == "config/experiments/test.yaml: midpoint_share 0.25 is unlucky; allowed: any other"


def test_recipes_have_its_parameters_and_code(said):
    chosen = [recipe for recipe in said["recipes"] if recipe["name"] == "midpoint"]
    assert [recipe["parameters"] for recipe in chosen] == [
        {"midpoint_share": 0.5},
        {"midpoint_share": 1.0},
    ]
    assert len({recipe["code"] for recipe in chosen}) == 1


def test_the_covariance_that_it_needs_is_measured(said):
    assert said["covariance_of"] == [None, "prompt"]


def test_both_are_built(said):
    assert said["is_like_by_hand"]
    assert said["masked"][0].endswith(" silenced")


def test_it_has_a_column_a_label_documentation_and_an_example(said):
    assert "midpoint_share" in said["columns"]
    assert said["label"] == "share of the midpoint (of alpha)"
    (row,) = [line for line in said["reference"].split("\n") if line.startswith("| `midpoint` |")]
    assert "t + alpha * midpoint_share * (v - t)" in row
    assert "| nobody |" in row
    (row,) = [line for line in said["reference"].split("\n") if line.startswith("| `midpoint_share` |")]
    assert "| `midpoint` | number (0 to 1), in of alpha | `0.5` | `0.5` | How much of the source" in row
    assert said["takes_part"] == [False, True]
    assert "  midpoint: {blend: midpoint, midpoint_share: 0.75}\n" in said["settings"]


# Module -> line that is left out -> what is said then.
LEFT_OUT = (
    (
        "midpoint",
        "        neutral=0.5,\n",
        "TypeError: blend 'midpoint': parameter midpoint_share has no neutral value",
    ),
    ("midpoint", "    examples={", "TypeError: blend 'midpoint': no setting shows what it does"),
    (
        "correlated",
        "    needs=(COVARIANCE,),\n",
        "TypeError: masking 'correlated': it has parameter statistics",
    ),
)

# One process that forks, for most of the time goes into importing what all of them import.
IMPORTS = """
import json, os
from pathlib import Path
import pydantic, yaml

for file, text in json.loads(Path("left_out.json").read_text()):
    whole = Path(file).read_text()
    Path(file).write_text(text)
    child = os.fork()
    if child == 0:
        error = None
        try:
            import graftwork.design.schema
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}"
        print(json.dumps(error), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    Path(file).write_text(whole)
"""


def test_what_is_left_out_is_said_when_it_is_imported(copy):
    changed = []
    for module, line, _ in LEFT_OUT:
        file = copy / f"graftwork/transforms/{module}.py"
        whole = file.read_text()
        (part,) = [one for one in whole.splitlines(keepends=True) if one.startswith(line.rstrip("\n"))]
        changed.append([str(file), whole.replace(part, "")])
    (copy / "left_out.json").write_text(json.dumps(changed))
    done = run(copy, IMPORTS)
    assert done.returncode == 0, done.stderr
    said = [json.loads(line) or "" for line in done.stdout.splitlines()]
    assert len(said) == len(LEFT_OUT)
    for error, (_, _, expected) in zip(said, LEFT_OUT, strict=True):
        assert error.startswith(expected)
