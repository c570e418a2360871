# The models that the chosen experiments and analyses need: looking at them, and downloading them.
#   in   config/, the cache of huggingface_hub (HF_HUB_CACHE, HF_HOME), the hub (HF_ENDPOINT)
#   out  lines on the terminal and in the log; files in that cache


# `snakemake check_models`: what is here, what is missing, whether it fits this machine. Fails if something is in the way.
rule check_models:
    log:
        "logs/check_models.log",
    localrule: True
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        config=config,
    message:
        "Looking at the models that are needed"
    script:
        "../workflow_scripts/check_models.py"


# `snakemake download_models`: fetches what is missing, says how much first, and continues what was interrupted.
rule download_models:
    log:
        "logs/download_models.log",
    localrule: True
    resources:
        mem_mb=4000,
        runtime=1440,
    params:
        config=config,
    message:
        "Downloading the models that are needed"
    script:
        "../workflow_scripts/download_models.py"
