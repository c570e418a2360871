"""Plans which images are missing."""

import sys
from pathlib import Path

from graftwork.core.records import read_record, write_record
from graftwork.design.cells import Design
from graftwork.design.settings import Hardware, Sharding
from graftwork.jobs.planned import ending_in_words, require_inputs
from graftwork.jobs.record import all_failures, open_log
from graftwork.planning.cells import cells_digest
from graftwork.planning.no_ops import find_no_ops, one_line
from graftwork.planning.plan import drop_conditioning, plan_images
from graftwork.store.layout import Store


def main(snakemake):
    log = open_log(snakemake.log[0])
    store, params = Store(Path("results/store")), snakemake.params
    designs = [read_record(Design, path) for path in snakemake.input.designs]
    hardware, sharding = Hardware.model_validate(params.hardware), Sharding.model_validate(params.sharding)
    with ending_in_words(log):
        require_inputs(snakemake.wildcards.scope, params.digest, lambda: cells_digest(designs, hardware))
    failures = all_failures([*snakemake.input.captions, *snakemake.input.conditioning])
    plan = plan_images(designs, hardware, sharding, store, failures, params.keep_conditioning)
    if not params.keep_conditioning:
        drop_conditioning(plan, store)
    lines = [f"{len(plan.shard_of)} images to make in {len(plan.shards)} shards"]
    # Before a GPU is taken: there is time left to stop.
    lines += [one_line(find_no_ops(design, plan.cells), design.experiment) for design in designs]
    for line in lines:
        log.info(line)
        print(line, file=sys.stderr)
    write_record(Path(snakemake.output.plan), plan)


if "snakemake" in globals():
    main(globals()["snakemake"])
