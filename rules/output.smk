# What people look at: tables, grids, the verdict, and images with their parameters in them.
#   in   results/{experiment}/design.json, results/store/images/
#   out  results/{experiment}/cells.csv, results/{experiment}/grids/*.png, results/{experiment}/export/


rule tabulate:
    message:
        "Tabulating {wildcards.experiment}"
    input:
        design="results/{experiment}/design.json",
        manifests=lambda wildcards: image_manifests(SCOPES.scope_of(wildcards.experiment), wildcards.experiment),
    output:
        table="results/{experiment}/cells.csv",
    params:
        plan=lambda wildcards: f"results/plan/{SCOPES.scope_of(wildcards.experiment)}/images.json",
        cells=lambda wildcards: SCOPES.cells_digest(
            image_plan(SCOPES.scope_of(wildcards.experiment)), wildcards.experiment
        ),
        code=SCOPES.table_code,
    log:
        "logs/tabulate/{experiment}.log",
    localrule: True
    script:
        "../workflow_scripts/tabulate.py"


rule draw_grid:
    message:
        "Drawing grid {wildcards.page} of {wildcards.experiment}"
    input:
        design="results/{experiment}/design.json",
        table="results/{experiment}/cells.csv",
    output:
        grid="results/{experiment}/grids/{page}.png",
    params:
        page=design_error(lambda wildcards: SCOPES.page(wildcards.experiment, wildcards.page)),
        code=SCOPES.grid_code,
    log:
        "logs/draw_grid/{experiment}/{page}.log",
    script:
        "../workflow_scripts/draw_grid.py"


# Fails, after everything else is done, if any cell has failed.
rule verdict:
    message:
        "Counting failed cells"
    input:
        tables=lambda wildcards: expand(
            "results/{experiment}/cells.csv", experiment=SCOPES.experiments(wildcards.scope)
        ),
        grids=lambda wildcards: grid_pages(SCOPES.experiments(wildcards.scope)),
    output:
        verdict="results/plan/{scope}/verdict.txt",
    log:
        "logs/verdict/{scope}.log",
    localrule: True
    script:
        "../workflow_scripts/verdict.py"


# `snakemake export`: one well-named PNG per cell, with its parameters as text.
rule export:
    input:
        expand("results/{experiment}/export/index.csv", experiment=PROJECT.settings.experiments),
    localrule: True


rule export_images:
    message:
        "Exporting images of {wildcards.experiment}"
    input:
        design="results/{experiment}/design.json",
        table="results/{experiment}/cells.csv",
    output:
        index="results/{experiment}/export/index.csv",
    params:
        code=SCOPES.export_code,
    log:
        "logs/export_images/{experiment}.log",
    localrule: True
    script:
        "../workflow_scripts/export_images.py"
