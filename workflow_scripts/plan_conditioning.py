"""Plans which hidden states and conditionings are missing."""

import sys
from pathlib import Path

from graftwork.core.records import read_record, write_record
from graftwork.design.cells import Design
from graftwork.design.settings import Hardware, Sharding
from graftwork.jobs.planned import ending_in_words, require_inputs
from graftwork.jobs.record import open_log
from graftwork.planning.cells import IMAGES, cells_digest
from graftwork.planning.plan import plan_conditioning
from graftwork.store.layout import Store
from graftwork.store.recipes import compact_recipes


def main(snakemake):
    log = open_log(snakemake.log[0])
    store, params = Store(Path("results/store")), snakemake.params
    compact_recipes(store.recipes)
    designs = [read_record(Design, path) for path in snakemake.input.designs]
    hardware, sharding = Hardware.model_validate(params.hardware), Sharding.model_validate(params.sharding)
    with ending_in_words(log):
        require_inputs(snakemake.wildcards.scope, params.digest, lambda: cells_digest(designs, hardware))
    plan = plan_conditioning(designs, hardware, sharding, store, params.digest)
    line = (
        f"{plan.missing_hidden_states} layers to extract, {plan.missing_statistics} statistics to measure, "
        f"{plan.missing_maps} maps to fit, "
        f"{plan.missing_recipes} conditionings to build"
    )
    log.info(line)
    print(line, file=sys.stderr)
    # Snakemake would take an old plan of images for the answer to this one: of two checkpoints in a row it asks the
    # second whether it is done before it asks whether it is due.
    Path(snakemake.output.plan).with_name(IMAGES).unlink(missing_ok=True)
    write_record(Path(snakemake.output.plan), plan)


if "snakemake" in globals():
    main(globals()["snakemake"])
