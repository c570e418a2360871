# The store itself: reading it back.
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
