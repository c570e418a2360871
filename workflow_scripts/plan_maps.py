"""Plans which hidden states and maps of a file of maps are missing."""

import sys
from pathlib import Path

from graftwork.core.records import write_record
from graftwork.design.project import Project
from graftwork.design.settings import Hardware, Sharding
from graftwork.jobs.planned import ending_in_words, require_inputs
from graftwork.jobs.record import open_log
from graftwork.planning.maps import maps_digest, plan_maps
from graftwork.store.layout import Store


def main(snakemake):
    log = open_log(snakemake.log[0])
    name, params = snakemake.wildcards.maps, snakemake.params
    design = Project(params.config, Path.cwd()).maps.read(name)
    hardware, sharding = Hardware.model_validate(params.hardware), Sharding.model_validate(params.sharding)
    with ending_in_words(log):
        require_inputs(f"maps {name}", params.digest, lambda: maps_digest(design, hardware))
    plan = plan_maps(design, hardware, sharding, Store(Path("results/store")), params.digest)
    line = f"{plan.missing_hidden_states} layers to extract, {plan.missing_maps} maps to fit"
    log.info(line)
    print(line, file=sys.stderr)
    write_record(Path(snakemake.output.plan), plan)


if "snakemake" in globals():
    main(globals()["snakemake"])
