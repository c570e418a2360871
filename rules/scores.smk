# From images to what can be measured of them, for experiments with `scores`; a summary and plots of each score. Scores that
# ask models are planned and sharded like images.
#   in   results/{experiment}/design.json, results/store/images/
#   out  results/store/values/
#   out  results/{experiment}/scores.csv, results/{experiment}/{summary}.csv, results/{experiment}/plots/


checkpoint plan_scores:
    input:
        designs=designs_of_scope,
        plan="results/plan/{scope}/images.json",
        images=lambda wildcards: image_manifests(wildcards.scope),
    output:
        plan="results/plan/{scope}/scores.json",
    log:
        "logs/plan_scores/{scope}.log",
    benchmark:
        "logs/benchmarks/plan_scores/{scope}.tsv"
    localrule: True
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        digest=of_scope(SCOPES.scoring_digest),
        asked=of_scope(lambda scope: to_json(SCOPES.asked(scope))),
        hardware=PROJECT.settings.hardware.model_dump(),
        sharding=PROJECT.settings.sharding.model_dump(),
    message:
        "Planning what scorers are asked ({wildcards.scope})"
    script:
        "../workflow_scripts/plan_scores.py"


rule measure_images:
    output:
        manifest="results/plan/{scope}/scores/{shard}.json",
    log:
        "logs/measure_images/{scope}/{shard}.log",
    benchmark:
        "logs/benchmarks/measure_images/{scope}/{shard}.tsv"
    priority: 1
    threads: 2
    resources:
        gpu=1,
        mem_mb=48000,
        runtime=240,
    message:
        "Asking a scorer, shard {wildcards.shard}"
    script:
        "../workflow_scripts/measure_images.py"


rule score_images:
    input:
        design="results/{experiment}/design.json",
        manifests=manifests_of_experiment,
        measured=score_manifests_of_experiment,
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
        scoring=of_experiment(lambda experiment: to_json(OUTPUTS.scoring(experiment))),
        hardware=PROJECT.settings.hardware.model_dump(),
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
        table=report(
            "results/{experiment}/{summary}.csv",
            caption="report/scores.rst",
            category="Experiments",
            subcategory="Tables",
            labels={"experiment": "{experiment}", "what": "{summary}"},
        ),
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


# One job for all plots of an experiment: drawing one takes less time than importing what draws it.
rule plot_scores:
    input:
        design="results/{experiment}/design.json",
        summaries=of_experiment(OUTPUTS.summaries_of_plots),
    output:
        plots=report(
            directory("results/{experiment}/plots"),
            patterns=["{plot}.png"],
            caption="report/plot.rst",
            category="Experiments",
            subcategory="Plots",
            labels={"experiment": "{experiment}", "what": "{plot}"},
        ),
    log:
        "logs/plot_scores/{experiment}.log",
    benchmark:
        "logs/benchmarks/plot_scores/{experiment}.tsv"
    localrule: True
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        plots=of_experiment(lambda experiment: to_json(OUTPUTS.plots(experiment))),
        scores=of_experiment(OUTPUTS.scores_asked_for),
        code=of_experiment(lambda experiment: report_code.score_plot_code(OUTPUTS.scores(experiment))),
    message:
        "Plotting scores of {wildcards.experiment}"
    script:
        "../workflow_scripts/plot_scores.py"
