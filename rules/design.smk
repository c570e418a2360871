# From an experiment file to its cells.
#   in   config/experiments/{experiment}.yaml, through its digest
#   out  results/{experiment}/design.json


rule expand_experiment:
    output:
        design="results/{experiment}/design.json",
    log:
        "logs/expand_experiment/{experiment}.log",
    benchmark:
        "logs/benchmarks/expand_experiment/{experiment}.tsv"
    localrule: True
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        digest=of_experiment(OUTPUTS.design_digest),
        config=PROJECT.identity_settings(),
    message:
        "Expanding experiment {wildcards.experiment}"
    script:
        "../workflow_scripts/expand_experiment.py"


# `snakemake list_experiments`: every experiment and study, how many cells it has, and what it asks.
rule list_experiments:
    log:
        "logs/list_experiments.log",
    localrule: True
    resources:
        mem_mb=4000,
        runtime=10,
    params:
        config=PROJECT.identity_settings(),
    message:
        "Listing experiments"
    script:
        "../workflow_scripts/list_experiments.py"
