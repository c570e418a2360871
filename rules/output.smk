# What people look at: tables, grids, a summary, the verdict, and images with their parameters in them.
#   in   results/{experiment}/design.json, results/store/images/
#   out  results/{experiment}/: cells.csv, cells_full.csv, constants.csv, grids/*.png, export/, summary.md, no_ops.csv


rule tabulate:
    input:
        design="results/{experiment}/design.json",
        manifests=lambda wildcards: image_manifests(
            SCOPES.scope_of(wildcards.experiment), wildcards.experiment
        ),
        scores=lambda wildcards: score_files([wildcards.experiment])[:1],
    output:
        table="results/{experiment}/cells.csv",
        full="results/{experiment}/cells_full.csv",
        constants="results/{experiment}/constants.csv",
    log:
        "logs/tabulate/{experiment}.log",
    localrule: True
    params:
        plan=lambda wildcards: f"results/plan/{SCOPES.scope_of(wildcards.experiment)}/images.json",
        cells=lambda wildcards: SCOPES.cells_digest(
            image_plan(SCOPES.scope_of(wildcards.experiment)), wildcards.experiment
        ),
        code=report_code.table_code(),
    message:
        "Tabulating {wildcards.experiment}"
    script:
        "../workflow_scripts/tabulate.py"


rule draw_grid:
    input:
        design="results/{experiment}/design.json",
        table="results/{experiment}/cells.csv",
    output:
        grid="results/{experiment}/grids/{page}.png",
    log:
        "logs/draw_grid/{experiment}/{page}.log",
    localrule: True
    params:
        page=design_error(lambda wildcards: SCOPES.page(wildcards.experiment, wildcards.page)),
        code=report_code.grid_code(),
    message:
        "Drawing grid {wildcards.page} of {wildcards.experiment}"
    script:
        "../workflow_scripts/draw_grid.py"


rule summarize_experiment:
    input:
        design="results/{experiment}/design.json",
        table="results/{experiment}/cells.csv",
        manifests=lambda wildcards: image_manifests(
            SCOPES.scope_of(wildcards.experiment), wildcards.experiment
        ),
        scores=lambda wildcards: score_summaries(wildcards.experiment),
    output:
        summary="results/{experiment}/summary.md",
        no_ops="results/{experiment}/no_ops.csv",
    log:
        "logs/summarize_experiment/{experiment}.log",
    localrule: True
    params:
        plan=lambda wildcards: f"results/plan/{SCOPES.scope_of(wildcards.experiment)}/images.json",
        cells=lambda wildcards: SCOPES.cells_digest(
            image_plan(SCOPES.scope_of(wildcards.experiment)), wildcards.experiment
        ),
        pictures=of_experiment(SCOPES.pictures),
        scores=of_experiment(SCOPES.scores),
        code=of_experiment(lambda experiment: report_code.experiment_code(SCOPES.scores(experiment))),
    message:
        "Summing up {wildcards.experiment}"
    script:
        "../workflow_scripts/summarize_experiment.py"


# Fails, after everything else is done, if any cell has failed.
rule verdict:
    input:
        tables=lambda wildcards: expand(
            "results/{experiment}/cells.csv", experiment=SCOPES.experiments(wildcards.scope)
        ),
        grids=lambda wildcards: grid_pages(SCOPES.experiments(wildcards.scope)),
        scores=lambda wildcards: score_files(SCOPES.experiments(wildcards.scope)),
        summaries=lambda wildcards: experiment_summaries(SCOPES.experiments(wildcards.scope)),
    output:
        verdict="results/plan/{scope}/verdict.txt",
    log:
        "logs/verdict/{scope}.log",
    localrule: True
    message:
        "Counting failed cells"
    script:
        "../workflow_scripts/verdict.py"


# `snakemake export`: one well-named PNG per cell, with its parameters as text.
rule export:
    input:
        expand("results/{experiment}/export/index.csv", experiment=PROJECT.settings.experiments),
    localrule: True


rule export_images:
    input:
        design="results/{experiment}/design.json",
        table="results/{experiment}/cells.csv",
    output:
        index="results/{experiment}/export/index.csv",
    log:
        "logs/export_images/{experiment}.log",
    localrule: True
    params:
        code=report_code.export_code(),
    message:
        "Exporting images of {wildcards.experiment}"
    script:
        "../workflow_scripts/export_images.py"
