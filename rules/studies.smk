# Studies: a question over several experiments and analyses, answered in a report.
#   in   tables of the experiments, summaries of the analyses that the study names
#   out  results/studies/{study}/: report.md, report.html, report.json, tables and plots
STUDIES = studies()


# Tables and plots are not declared, for what there is follows from what is found; all are written before the report.
rule write_study:
    input:
        tables=lambda wildcards: expand(
            "results/{experiment}/cells_full.csv", experiment=STUDIES[wildcards.study].experiments
        ),
        designs=lambda wildcards: expand(
            "results/{experiment}/design.json",
            experiment=[*STUDIES[wildcards.study].experiments, *STUDIES[wildcards.study].designs],
        ),
        grids=lambda wildcards: grid_files(STUDIES[wildcards.study].experiments),
        analyses=lambda wildcards: expand(
            "results/statistics/{analysis}/summary.md", analysis=STUDIES[wildcards.study].analyses
        ),
    output:
        report="results/studies/{study}/report.md",
        page=report(
            "results/studies/{study}/report.html",
            caption="report/study.rst",
            category="Studies",
            labels={"study": "{study}", "what": "report with plots"},
        ),
        card="results/studies/{study}/.card.json",
    log:
        "logs/write_study/{study}.log",
    benchmark:
        "logs/benchmarks/write_study/{study}.tsv"
    wildcard_constraints:
        study="|".join(STUDIES),
    localrule: True
    resources:
        mem_mb=16000,
        runtime=60,
    params:
        config=PROJECT.identity_settings(),
        code=lambda wildcards: STUDIES[wildcards.study].digest,
        # Those of experiments and analyses are in their tables.
        models=lambda wildcards: PROJECT.model_identities() if STUDIES[wildcards.study].models else [],
    message:
        "Writing the study {wildcards.study}"
    script:
        "../workflow_scripts/write_study.py"


# `snakemake study_models` and so on: the report of one study.
for study in STUDIES:

    rule:
        name:
            f"study_{study}"
        input:
            f"results/studies/{study}/report.md",
        localrule: True


# `snakemake studies`: all reports.
rule studies:
    input:
        expand("results/studies/{study}/report.md", study=STUDIES),
    localrule: True
