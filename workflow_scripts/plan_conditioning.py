"""Plans which hidden states and conditionings are missing."""

import json
import sys
from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.jobs.record import open_log
from graftwork.planning.plan import plan_conditioning
from graftwork.store.layout import Store
from graftwork.store.recipes import compact_recipes


def main(snakemake):
    log = open_log(snakemake.log[0])
    store = Store(Path("results/store"))
    compact_recipes(store.recipes)
    designs = [json.loads(Path(path).read_text(encoding="utf-8")) for path in snakemake.input.designs]
    plan = plan_conditioning(designs, snakemake.params.hardware, snakemake.params.sharding, store)
    line = (
        f"{plan['missing_hidden_states']} layers to extract, {plan['missing_statistics']} statistics to measure, "
        f"{plan['missing_recipes']} conditionings to build"
    )
    log.info(line)
    print(line, file=sys.stderr)
    # Snakemake would take an old plan of images for the answer to this one: of two checkpoints in a row it asks the
    # second whether it is done before it asks whether it is due.
    Path(snakemake.output.plan).with_name("images.json").unlink(missing_ok=True)
    plan["digest"] = snakemake.params.digest
    write_atomic(Path(snakemake.output.plan), json.dumps(plan, indent=1))


if "snakemake" in globals():
    main(globals()["snakemake"])
