# From an experiment file to its cells.
#   in   config/experiments/{experiment}.yaml, through its digest
#   out  results/{experiment}/design.json


rule expand_experiment:
    message:
        "Expanding experiment {wildcards.experiment}"
    output:
        design="results/{experiment}/design.json",
    params:
        digest=of_experiment(SCOPES.design_digest),
        config=PROJECT.identity_settings(),
    log:
        "logs/expand_experiment/{experiment}.log",
    localrule: True
    script:
        "../workflow_scripts/expand_experiment.py"
