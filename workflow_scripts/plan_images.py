"""Plans which images are missing."""

import json
import sys
from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.jobs.record import all_failures, open_log
from graftwork.planning.no_ops import find_no_ops, one_line
from graftwork.planning.plan import drop_conditioning, plan_images
from graftwork.store.layout import Store


def main(snakemake):
    log = open_log(snakemake.log[0])
    store = Store(Path("results/store"))
    designs = [json.loads(Path(path).read_text(encoding="utf-8")) for path in snakemake.input.designs]
    params = snakemake.params
    failures = all_failures(snakemake.input.conditioning)
    plan = plan_images(designs, params.hardware, params.sharding, params.keep_conditioning, store, failures)
    line = f"{len(plan['shard_of'])} images to make in {len(plan['shards'])} shards"
    if not params.keep_conditioning:
        drop_conditioning(plan, store)
    log.info(line)
    print(line, file=sys.stderr)
    for design in designs:
        # Before a GPU is taken: there is time left to stop.
        line = one_line(find_no_ops(design, plan["cells"]), design["experiment"])
        log.info(line)
        print(line, file=sys.stderr)
    write_atomic(Path(snakemake.output.plan), json.dumps(plan, indent=1, ensure_ascii=False))


if "snakemake" in globals():
    main(globals()["snakemake"])
