# From images to what can be measured of them, for experiments with `scores`; a summary and plots of each score.
#   in   results/{experiment}/design.json, results/store/images/
#   out  results/{experiment}/scores.csv, results/{experiment}/{summary}.csv, results/{experiment}/plots/*.png


rule score_images:
    input:
        design="results/{experiment}/design.json",
        manifests=lambda wildcards: image_manifests(
            SCOPES.scope_of(wildcards.experiment), wildcards.experiment
        ),
    output:
        table="results/{experiment}/scores.csv",
    log:
        "logs/score_images/{experiment}.log",
    localrule: True
    params:
        plan=lambda wildcards: f"results/plan/{SCOPES.scope_of(wildcards.experiment)}/images.json",
        cells=lambda wildcards: SCOPES.cells_digest(
            image_plan(SCOPES.scope_of(wildcards.experiment)), wildcards.experiment
        ),
        scores=of_experiment(SCOPES.scores_asked_for),
        code=of_experiment(lambda experiment: report_code.score_code(SCOPES.scores(experiment))),
    message:
        "Scoring images of {wildcards.experiment}"
    script:
        "../workflow_scripts/score_images.py"


rule summarize_scores:
    input:
        design="results/{experiment}/design.json",
        scores="results/{experiment}/scores.csv",
    output:
        table="results/{experiment}/{summary}.csv",
    log:
        "logs/summarize_scores/{experiment}/{summary}.log",
    localrule: True
    params:
        scores=of_experiment(SCOPES.scores_asked_for),
        code=design_error(
            lambda wildcards: report_code.score_summary_code(
                wildcards.summary, SCOPES.scores(wildcards.experiment)
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
    localrule: True
    params:
        table=design_error(lambda wildcards: SCOPES.plot(wildcards.experiment, wildcards.plot).table),
        shows=design_error(lambda wildcards: SCOPES.plot(wildcards.experiment, wildcards.plot).shows),
        code=design_error(
            lambda wildcards: report_code.score_plot_code(
                SCOPES.plot(wildcards.experiment, wildcards.plot).table, SCOPES.scores(wildcards.experiment)
            )
        ),
    message:
        "Plotting {wildcards.plot} of {wildcards.experiment}"
    script:
        "../workflow_scripts/plot_scores.py"
