"""Adding a blend touches one module and its test: everything else follows from the registry.

The schema of experiments is made from the registry when it is imported, so the new blend is registered in a process of its
own, before that. A parameter that the blend brings along has one line in `identity.NEUTRAL`, which the process adds.
"""

import json
import subprocess
import sys

import pytest

from graftwork.core.code_digest import REPOSITORY, code_digest
from graftwork.transforms.registry import transforms

PROGRAM = """
import json, sys, tempfile
from pathlib import Path
from graftwork.core.identity import NEUTRAL
NEUTRAL["throwaway_sharpness"] = 1.0
from graftwork.transforms import registry
registry.transforms("blend")
import tests.unit.transforms.throwaway_blend

import torch
from tests.unit.conditioning.test_build import SOURCE_ROLES, TEXT_ROLES, recipe, states
from tests.unit.design.designs import expand, experiment
from graftwork.conditioning.build import build_conditioning
from graftwork.design.describe import SCHEMAS, reference_text, schema_text
from graftwork.core.errors import DesignError
from graftwork.design.settings import Hardware
from graftwork.planning.keys import Keys
from graftwork.core.labels import label
from graftwork.reports.table import parameter_columns

def refusal(base):
    try:
        expand(Path(folder), experiment({}, {"blend": "throwaway", **base}))
    except DesignError as error:
        return str(error)

said = {}
with tempfile.TemporaryDirectory() as folder:
    design = expand(
        Path(folder),
        experiment({"blend": ["linear", "throwaway"], "throwaway_sharpness": [1.0, 2.0]}, {"alpha": 0.5}),
    )
    said["refusals"] = [refusal({"throwaway_sharpness": value}) for value in (10.0, 7.0)]
keys = Keys(design.models, Hardware().model_dump())
said["labels"] = [label("blend", text) for text in design.axes[3].labels]
said["recipes"] = [keys.recipe(cell.parameters)["blend"] for cell in design.cells if cell.role == "cell"][:4]
said["ids"] = len({cell.cell for cell in design.cells if cell.role == "cell"})
said["columns"] = parameter_columns(design.to_json())
said["reference"] = reference_text()
said["schema"] = json.loads(schema_text(SCHEMAS["experiment"]))["$defs"]["Base"]["properties"]
text, source = states(TEXT_ROLES), states(SOURCE_ROLES, seed=1)
def build(**chosen):
    return build_conditioning(recipe(**chosen), lambda key, layer: {"t": text, "s": source}[key]).prompt_embeds
made = build(alpha=0.5, blend="throwaway", throwaway_sharpness=2.0)
said["built"] = torch.allclose(made, build(alpha=0.25, blend="linear"), rtol=1e-5, atol=1e-4)
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said():
    run = subprocess.run([sys.executable, "-c", PROGRAM], cwd=REPOSITORY, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_nothing_of_it_is_left_here():
    assert "throwaway" not in transforms("blend")


def test_experiments_may_choose_it(said):
    assert "throwaway" in said["schema"]["blend"]["enum"]
    assert said["schema"]["throwaway_sharpness"]["maximum"] == 9
    assert said["labels"] == ["blend = linear", "blend = throwaway"]
    # For each of two prompts: both blends at 1, and at 2, where the parameter of a blend that was not chosen names too.
    assert said["ids"] == 2 * 4


def test_what_it_does_not_take_is_refused(said):
    bounds, own = said["refusals"]
    assert "config/experiments/test.yaml: base.throwaway_sharpness: 10.0 is not allowed" in bounds
    assert own == "config/experiments/test.yaml: throwaway_sharpness 7.0 is unlucky; allowed: any other"


def test_recipes_have_its_parameters_and_code(said):
    code = code_digest(["tests.unit.transforms.throwaway_blend:blend_throwaway"])
    chosen = [recipe for recipe in said["recipes"] if recipe["name"] == "throwaway"]
    assert chosen == [
        {"name": "throwaway", "parameters": {"throwaway_sharpness": value}, "code": code}
        for value in (1.0, 2.0)
    ]


def test_it_is_built(said):
    assert said["built"]


def test_it_is_documented_and_has_columns(said):
    blends = said["reference"].split("### `blend`\n")[1].split("\n## ")[0]
    (row,) = [line for line in blends.split("\n") if line.startswith("| `throwaway` |")]
    assert "alpha^throwaway_sharpness * v" in row
    assert "| nobody |" in row
    (row,) = [line for line in blends.split("\n") if line.startswith("| `throwaway_sharpness` |")]
    assert "| `throwaway` | number (0 to 9) | `1.0` | `1.0` | How sharply `throwaway` mixes. |" in row
    assert "throwaway_sharpness" in said["columns"]
