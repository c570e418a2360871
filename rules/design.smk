# From an experiment file to its cells.
#   in   config/experiments/{experiment}.yaml, through its digest
#   out  results/{experiment}/design.json


rule expand_experiment:
    output:
        design="results/{experiment}/design.json",
    log:
        "logs/expand_experiment/{experiment}.log",
    localrule: True
    params:
        digest=of_experiment(SCOPES.design_digest),
        config=PROJECT.identity_settings(),
    message:
        "Expanding experiment {wildcards.experiment}"
    script:
        "../workflow_scripts/expand_experiment.py"
