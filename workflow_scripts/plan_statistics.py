"""Plans which hidden states and statistics of an analysis are missing."""

import json
import sys
from pathlib import Path

from graftwork.core.atomic import write_atomic
from graftwork.design.project import Project
from graftwork.jobs.record import open_log
from graftwork.planning.analyses import plan_analysis
from graftwork.store.layout import Store


def main(snakemake):
    log = open_log(snakemake.log[0])
    name, params = snakemake.wildcards.analysis, snakemake.params
    design = Project(params.config, Path.cwd()).analysis(name)
    if design.digest != params.design:
        raise RuntimeError(
            f"config/statistics/{name}.yaml, its corpus or its models changed while the run was starting; start it again"
        )
    plan = plan_analysis(design, params.hardware, params.sharding, Store(Path("results/store")))
    line = f"{plan['missing_hidden_states']} layers to extract, {plan['missing_statistics']} statistics to measure"
    log.info(line)
    print(line, file=sys.stderr)
    plan["digest"] = params.digest
    write_atomic(Path(snakemake.output.plan), json.dumps(plan, indent=1, ensure_ascii=False))


if "snakemake" in globals():
    main(globals()["snakemake"])
