"""Lists the files of the store that no experiment, analysis or file of maps uses, and removes them where that is asked for."""

import sys
from pathlib import Path

from graftwork.core.labels import printable
from graftwork.design.project import Project
from graftwork.jobs.record import open_log
from graftwork.planning.scope import PLANS
from graftwork.planning.store_use import collect, collect_lines, find_use, why_not_collect
from graftwork.store.layout import Store


def main(snakemake):
    log = open_log(snakemake.log[0])
    store = Store(Path("results/store"))
    project = Project(snakemake.params.config, Path.cwd())
    use = find_use(project, store, PLANS)
    lines = collect_lines(use, store)
    for path in use.unused():
        log.info("unused: %s", path)
    refusal = why_not_collect(use, store)
    if project.settings.gc == "list":
        lines.append(
            f"nothing was removed; {snakemake.log[0]} lists the files, `snakemake gc --config gc=delete` removes them"
        )
    elif refusal is None:
        lines.append(f"{len(collect(use))} files were removed")
    for line in lines:
        log.info(line)
        print(printable(f"graftwork: {line}"), file=sys.stderr)
    if project.settings.gc == "delete" and refusal is not None:
        sys.exit(printable(refusal))


if "snakemake" in globals():
    main(globals()["snakemake"])
