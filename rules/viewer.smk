# The viewer: a static page of an experiment's images on any two of its axes, in a folder that can be moved, zipped and sent.
#   in   results/{experiment}/design.json, results/{experiment}/cells_full.csv, results/store/images/
#   out  results/store/thumbnails/, results/{experiment}/viewer/
from graftwork.reports.viewer.code import thumbnail_code, viewer_code


# Once per image: a thumbnail that is in the store is not made again. Images that cannot be read are named in the manifest.
rule make_thumbnails:
    input:
        design="results/{experiment}/design.json",
        table="results/{experiment}/cells_full.csv",
    output:
        manifest="results/plan/thumbnails/{experiment}/{part}_of_{parts}.json",
    log:
        "logs/make_thumbnails/{experiment}/{part}_of_{parts}.log",
    benchmark:
        "logs/benchmarks/make_thumbnails/{experiment}/{part}_of_{parts}.tsv"
    wildcard_constraints:
        part="[0-9]+",
        parts="[0-9]+",
    threads: 2
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        part=lambda wildcards: int(wildcards.part),
        parts=lambda wildcards: int(wildcards.parts),
        code=thumbnail_code(),
    message:
        "Making thumbnails of {wildcards.experiment}, part {wildcards.part} of {wildcards.parts}"
    script:
        "../workflow_scripts/make_thumbnails.py"


# The folder is declared beside its page, for `--report report.zip` takes in a page with its files only as a folder.
rule build_viewer:
    input:
        design="results/{experiment}/design.json",
        table="results/{experiment}/cells_full.csv",
        manifests=manifests_of_experiment,
        thumbnails=thumbnail_manifests,
    output:
        folder=in_zip_report(
            directory("results/{experiment}/viewer"),
            caption="report/viewer.rst",
            htmlindex="index.html",
            category="Experiments",
            # What has no subcategory is called "Other" beside what has one.
            subcategory="Summaries",
            labels={"experiment": "{experiment}", "what": "viewer"},
        ),
        page="results/{experiment}/viewer/index.html",
    log:
        "logs/build_viewer/{experiment}.log",
    benchmark:
        "logs/benchmarks/build_viewer/{experiment}.tsv"
    localrule: True
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        plan=plan_of_experiment,
        cells=planned_cells,
        scores=of_experiment(OUTPUTS.scores),
        links={"all results": "../../index.html", "summary": "../summary.html", "cells.csv": "../cells.csv"},
        code=viewer_code(),
    message:
        "Building the viewer of {wildcards.experiment}"
    script:
        "../workflow_scripts/build_viewer.py"
