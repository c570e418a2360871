# From images to what can be measured of them, for experiments with `scores`; a summary and plots of each score.
#   in   results/{experiment}/design.json, results/store/images/
#   out  results/{experiment}/scores.csv, results/{experiment}/{summary}.csv, results/{experiment}/plots/*.png


rule score_images:
    input:
        design="results/{experiment}/design.json",
        manifests=manifests_of_experiment,
        files=of_experiment(OUTPUTS.files_of_scores),
    output:
        table="results/{experiment}/scores.csv",
    log:
        "logs/score_images/{experiment}.log",
    benchmark:
        "logs/benchmarks/score_images/{experiment}.tsv"
    localrule: True
    resources:
        mem_mb=8000,
        runtime=120,
    params:
        plan=plan_of_experiment,
        cells=planned_cells,
        scores=of_experiment(OUTPUTS.scores_asked_for),
        code=of_experiment(lambda experiment: report_code.score_code(OUTPUTS.scores(experiment))),
    message:
        "Scoring images of {wildcards.experiment}"
    script:
        "../workflow_scripts/score_images.py"


rule summarize_scores:
    input:
        design="results/{experiment}/design.json",
        scores="results/{experiment}/scores.csv",
        files=of_experiment(OUTPUTS.files_of_scores),
    output:
        table="results/{experiment}/{summary}.csv",
    log:
        "logs/summarize_scores/{experiment}/{summary}.log",
    benchmark:
        "logs/benchmarks/summarize_scores/{experiment}/{summary}.tsv"
    localrule: True
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        scores=of_experiment(OUTPUTS.scores_asked_for),
        code=design_error(
            lambda wildcards: report_code.score_summary_code(
                wildcards.summary, OUTPUTS.scores(wildcards.experiment)
            )
        ),
    message:
        "Summarizing scores of {wildcards.experiment}: {wildcards.summary}"
    script:
        "../workflow_scripts/summarize_scores.py"


rule plot_scores:
    input:
        design="results/{experiment}/design.json",
        summary=lambda wildcards: summary_of_plot(wildcards.experiment, wildcards.plot),
    output:
        plot="results/{experiment}/plots/{plot}.png",
    log:
        "logs/plot_scores/{experiment}/{plot}.log",
    benchmark:
        "logs/benchmarks/plot_scores/{experiment}/{plot}.tsv"
    localrule: True
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        table=design_error(lambda wildcards: OUTPUTS.plot(wildcards.experiment, wildcards.plot).table),
        shows=design_error(lambda wildcards: OUTPUTS.plot(wildcards.experiment, wildcards.plot).shows),
        scores=of_experiment(OUTPUTS.scores_asked_for),
        code=design_error(
            lambda wildcards: report_code.score_plot_code(
                OUTPUTS.plot(wildcards.experiment, wildcards.plot).table,
                OUTPUTS.scores(wildcards.experiment),
            )
        ),
    message:
        "Plotting {wildcards.plot} of {wildcards.experiment}"
    script:
        "../workflow_scripts/plot_scores.py"
