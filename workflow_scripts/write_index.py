"""Writes results/index.html."""

from graftwork.jobs.record import open_log
from graftwork.reports.index import write_index


def main(snakemake):
    log = open_log(snakemake.log[0])
    write_index(snakemake.params.wanted)
    log.info("%s cards", len(snakemake.input))


if "snakemake" in globals():
    main(globals()["snakemake"])
