# The store itself: reading it back, what it takes, and what nothing uses.
#   in   results/store/
#   out  lines on the terminal and in the log


# `snakemake verify_store`: reads every file of the store, and fails where one is not what its name says.
rule verify_store:
    log:
        "logs/verify_store.log",
    localrule: True
    resources:
        mem_mb=8000,
        runtime=480,
    message:
        "Reading the store back"
    script:
        "../workflow_scripts/verify_store.py"


# `snakemake repair_store`: the same, and removes what is damaged; the next run makes it again.
rule repair_store:
    log:
        "logs/repair_store.log",
    localrule: True
    resources:
        mem_mb=8000,
        runtime=480,
    message:
        "Reading the store back, and removing what is damaged"
    script:
        "../workflow_scripts/repair_store.py"


# `snakemake store_report`: what the store takes, and which experiments, analyses and maps use it.
rule store_report:
    log:
        "logs/store_report.log",
    localrule: True
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        config=config,
    message:
        "Counting what uses the store"
    script:
        "../workflow_scripts/store_report.py"


# `snakemake gc`: lists the files that no experiment, analysis or map uses; with `--config gc=delete`, removes them.
rule gc:
    log:
        "logs/gc.log",
    localrule: True
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        config=config,
    message:
        "Looking for files of the store that nothing uses"
    script:
        "../workflow_scripts/gc.py"
