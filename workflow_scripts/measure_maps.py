"""Measures the maps of a file on held-out prompts."""

from pathlib import Path

from graftwork.core.records import read_record
from graftwork.jobs.map_study import measure_maps, write_tables
from graftwork.jobs.planned import ending_in_words, require_code
from graftwork.jobs.record import all_failures, end_process, open_log
from graftwork.planning.maps import MapsPlan
from graftwork.reports import code as report_code
from graftwork.store.layout import Store


def main(snakemake):
    log = open_log(snakemake.log[0])
    plan = read_record(MapsPlan, snakemake.input.plan)
    failures = all_failures([*snakemake.input.extraction, *snakemake.input.maps])
    measured = measure_maps(plan.study, Store(Path("results/store")), log, failures)
    with ending_in_words(log):
        require_code("measurements of maps", snakemake.params.code, report_code.map_measure_code)
    write_tables(measured, Path(snakemake.output.metrics).parent)


if "snakemake" in globals():
    main(globals()["snakemake"])
    end_process()
