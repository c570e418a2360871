"""Plans which hidden states and statistics of an analysis are missing."""

import sys
from pathlib import Path

from graftwork.core.records import write_record
from graftwork.design.project import Project
from graftwork.design.settings import Hardware, Sharding
from graftwork.jobs.planned import ending_in_words, require_inputs
from graftwork.jobs.record import open_log
from graftwork.planning.analyses import analysis_digest, plan_analysis
from graftwork.store.layout import Store


def main(snakemake):
    log = open_log(snakemake.log[0])
    name, params = snakemake.wildcards.analysis, snakemake.params
    design = Project(params.config, Path.cwd()).analysis(name)
    if design.digest != params.design:
        raise RuntimeError(
            f"config/statistics/{name}.yaml, its corpus or its models changed while the run was starting; start it again"
        )
    hardware, sharding = Hardware.model_validate(params.hardware), Sharding.model_validate(params.sharding)
    with ending_in_words(log):
        require_inputs(f"statistics {name}", params.digest, lambda: analysis_digest(design, hardware))
    plan = plan_analysis(design, hardware, sharding, Store(Path("results/store")), params.digest)
    line = f"{plan.missing_hidden_states} layers to extract, {plan.missing_statistics} statistics to measure"
    log.info(line)
    print(line, file=sys.stderr)
    write_record(Path(snakemake.output.plan), plan)


if "snakemake" in globals():
    main(globals()["snakemake"])
