# What people look at: tables, grids, a summary, the verdict, and images with their parameters in them.
#   in   results/{experiment}/design.json, results/store/images/
#   out  results/{experiment}/: cells.csv, cells_full.csv, constants.csv, grids/*.png, export/, summary.md, no_ops.csv


rule tabulate:
    input:
        design="results/{experiment}/design.json",
        manifests=manifests_of_experiment,
        scores=lambda wildcards: score_files([wildcards.experiment])[:1],
    output:
        table=report(
            "results/{experiment}/cells.csv",
            caption="report/cells.rst",
            category="Experiments",
            subcategory="Tables",
            labels={"experiment": "{experiment}", "what": "cells"},
        ),
        full="results/{experiment}/cells_full.csv",
        constants="results/{experiment}/constants.csv",
    log:
        "logs/tabulate/{experiment}.log",
    benchmark:
        "logs/benchmarks/tabulate/{experiment}.tsv"
    localrule: True
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        plan=plan_of_experiment,
        cells=planned_cells,
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
        grid=report(
            "results/{experiment}/grids/{page}.png",
            caption="report/grid.rst",
            category="Experiments",
            subcategory="Grids",
            labels={"experiment": "{experiment}", "what": "{page}"},
        ),
    log:
        "logs/draw_grid/{experiment}/{page}.log",
    benchmark:
        "logs/benchmarks/draw_grid/{experiment}/{page}.tsv"
    localrule: True
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        page=design_error(lambda wildcards: to_json(OUTPUTS.page(wildcards.experiment, wildcards.page))),
        code=report_code.grid_code(),
    message:
        "Drawing grid {wildcards.page} of {wildcards.experiment}"
    script:
        "../workflow_scripts/draw_grid.py"


rule summarize_experiment:
    input:
        design="results/{experiment}/design.json",
        table="results/{experiment}/cells.csv",
        manifests=manifests_of_experiment,
        scores=lambda wildcards: score_summaries(wildcards.experiment),
    output:
        summary="results/{experiment}/summary.md",
        no_ops=report(
            "results/{experiment}/no_ops.csv",
            caption="report/no_ops.rst",
            category="Experiments",
            subcategory="Tables",
            labels={"experiment": "{experiment}", "what": "settings that do nothing"},
        ),
        card="results/{experiment}/.card.json",
    log:
        "logs/summarize_experiment/{experiment}.log",
    benchmark:
        "logs/benchmarks/summarize_experiment/{experiment}.tsv"
    localrule: True
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        plan=plan_of_experiment,
        cells=planned_cells,
        pictures=of_experiment(OUTPUTS.pictures),
        more_pages=of_experiment(OUTPUTS.more_pages),
        scores=of_experiment(OUTPUTS.scores),
        code=of_experiment(lambda experiment: report_code.experiment_code(OUTPUTS.scores(experiment))),
    message:
        "Summing up {wildcards.experiment}"
    script:
        "../workflow_scripts/summarize_experiment.py"


# Says, after everything else is done, which cells have failed. The run is judged by `judge_run`, whatever its targets. A module
# has no hooks, so there this job fails, after everything that could be made was made.
rule verdict:
    input:
        tables=lambda wildcards: expand(
            "results/{experiment}/cells.csv", experiment=SCOPES.experiments(wildcards.scope)
        ),
        grids=lambda wildcards: grid_files(SCOPES.experiments(wildcards.scope)),
        scores=lambda wildcards: score_files(SCOPES.experiments(wildcards.scope)),
        summaries=lambda wildcards: OUTPUTS.summaries(SCOPES.experiments(wildcards.scope)),
    output:
        verdict="results/plan/{scope}/verdict.txt",
    log:
        "logs/verdict/{scope}.log",
    benchmark:
        "logs/benchmarks/verdict/{scope}.tsv"
    localrule: True
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        fails=IS_MODULE,
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
    benchmark:
        "logs/benchmarks/export_images/{experiment}.tsv"
    localrule: True
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        code=report_code.export_code(),
    message:
        "Exporting images of {wildcards.experiment}"
    script:
        "../workflow_scripts/export_images.py"


# `snakemake export_states`: the hidden states that the experiments use, as safetensors files with a table.
rule export_states:
    input:
        expand("results/{experiment}/states/index.csv", experiment=PROJECT.settings.experiments),
    localrule: True


rule write_states:
    input:
        design="results/{experiment}/design.json",
        extraction=lambda wildcards: extraction_manifests(SCOPES.scope_of(wildcards.experiment)),
    output:
        index="results/{experiment}/states/index.csv",
    log:
        "logs/write_states/{experiment}.log",
    benchmark:
        "logs/benchmarks/write_states/{experiment}.tsv"
    localrule: True
    resources:
        mem_mb=8000,
        runtime=120,
    params:
        hardware=PROJECT.settings.hardware.model_dump(),
        code=report_code.states_code(),
    message:
        "Exporting hidden states of {wildcards.experiment}"
    script:
        "../workflow_scripts/write_states.py"


# `snakemake report_time`: where the time of the runs so far went, by rule. It has no output, so that it is written each time.
rule report_time:
    log:
        "logs/report_time.log",
    localrule: True
    resources:
        mem_mb=1000,
        runtime=10,
    message:
        "Writing results/time.md: where the time went"
    script:
        "../workflow_scripts/report_time.py"
