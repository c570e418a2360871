# graftwork: what happens when a diffusion transformer is conditioned on another encoder's hidden states.
# Start with README.md. What to build is in config/config.yaml and config/experiments/.
from snakemake.utils import min_version

min_version("9.27")


include: "rules/configuration.smk"


report: "rules/report/workflow.rst"


configfile: "config/config.yaml"


# Jobs run in .venv, which `make setup` makes. This names the Python that it is made for; without
# `--software-deployment-method apptainer` it is not used, and with it the lock has to be installed in the image.
container: "docker://python:3.11-slim"


include: "rules/common.smk"
include: "rules/models.smk"
include: "rules/design.smk"
include: "rules/conditioning.smk"
include: "rules/statistics.smk"
include: "rules/maps.smk"
include: "rules/images.smk"
include: "rules/scores.smk"
include: "rules/output.smk"
include: "rules/viewer.smk"
include: "rules/studies.smk"
include: "rules/pages.smk"
include: "rules/store.smk"
include: "rules/miniature.smk"


# Everything for the experiments and analyses named in config/config.yaml.
rule all:
    default_target: True
    input:
        plan_and_manifests("all"),
        expand("results/{experiment}/cells.csv", experiment=PROJECT.settings.experiments),
        # Functions, since the models that an experiment needs may still have to be downloaded.
        lambda wildcards: score_files(PROJECT.settings.experiments),
        lambda wildcards: grid_files(PROJECT.settings.experiments),
        OUTPUTS.summaries(PROJECT.settings.experiments),
        expand("results/{experiment}/viewer", experiment=PROJECT.settings.experiments),
        "results/plan/all/verdict.txt",
        analysis_files(PROJECT.settings.statistics),
        expand("results/statistics/{analysis}/summary.html", analysis=PROJECT.settings.statistics),
        "results/index.html",
    localrule: True


onstart:
    require_writable()
    note_run_start()


onsuccess:
    judge_run(is_over=True, log=log)


onerror:
    judge_run(is_over=False, log=log)


announce_plan()
