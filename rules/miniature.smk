# The miniature family: tiny models of the published architectures, trained here. Nothing else needs these rules.
#   in   resources/miniature/recipes.yaml
#   out  results/miniature/{stage}/, results/miniature/family/, results/miniature/scorers/, results/miniature/measured/
#   out  results/miniature/calibration.json, results/miniature/calibration.md
from lab.miniature.recipes import (
    CALIBRATED,
    SHIPPED_SCORERS,
    STAGE_NEEDS,
    read_plan,
    recipe_values,
    scorer_entries,
)

MINIATURE = read_plan(Path(HOME, "resources/miniature/recipes.yaml"))


wildcard_constraints:
    stage="|".join(STAGE_NEEDS),
    family="shipped|trained",


# A stage keeps its checkpoints undeclared: what an interrupted job has done is not thrown away.
rule train_miniature_stage:
    input:
        lambda wildcards: expand("results/miniature/{stage}/probes.json", stage=STAGE_NEEDS[wildcards.stage]),
    output:
        probes="results/miniature/{stage}/probes.json",
    log:
        "logs/train_miniature_stage/{stage}.log",
    benchmark:
        "logs/benchmarks/train_miniature_stage/{stage}.tsv"
    priority: 1
    threads: MINIATURE.threads
    resources:
        gpu=int(MINIATURE.device != "cpu"),
        mem_mb=16000,
        runtime=1440,
    params:
        recipe=lambda wildcards: recipe_values(MINIATURE.stages[wildcards.stage]),
        device=MINIATURE.device,
    message:
        "Training {wildcards.stage} of the miniature"
    script:
        "../workflow_scripts/train_miniature_stage.py"


rule assemble_miniature:
    input:
        expand("results/miniature/{stage}/probes.json", stage=STAGE_NEEDS),
    output:
        done="results/miniature/family.txt",
    log:
        "logs/assemble_miniature.log",
    benchmark:
        "logs/benchmarks/assemble_miniature.tsv"
    localrule: True
    resources:
        mem_mb=4000,
        runtime=10,
    message:
        "Putting the miniature family together"
    script:
        "../workflow_scripts/assemble_miniature.py"


rule measure_miniature:
    input:
        lambda wildcards: [] if wildcards.family == "shipped" else "results/miniature/family.txt",
    output:
        measured="results/miniature/measured/{family}.json",
        table="results/miniature/measured/{family}.md",
    log:
        "logs/measure_miniature/{family}.log",
    benchmark:
        "logs/benchmarks/measure_miniature/{family}.tsv"
    threads: 2
    resources:
        mem_mb=8000,
        runtime=120,
    params:
        family=lambda wildcards: (
            "resources/miniature/family" if wildcards.family == "shipped" else "results/miniature/family"
        ),
    message:
        "Measuring the {wildcards.family} miniature"
    script:
        "../workflow_scripts/measure_miniature.py"


# `snakemake calibrate_miniature`: how the scorers in resources/miniature agree with the scene reader, on images of experiments.
rule calibrate_miniature:
    input:
        designs=expand("results/{experiment}/design.json", experiment=CALIBRATED),
        scores=expand("results/{experiment}/scores.csv", experiment=CALIBRATED),
        weights=expand(
            "{folder}/model.safetensors",
            folder=[entry["path"] for entry in scorer_entries(SHIPPED_SCORERS).values()],
        ),
    output:
        measured="results/miniature/calibration.json",
        table="results/miniature/calibration.md",
    log:
        "logs/calibrate_miniature.log",
    benchmark:
        "logs/benchmarks/calibrate_miniature.tsv"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=120,
    params:
        scorers=lambda wildcards: SHIPPED_SCORERS,
    message:
        "Calibrating the scorers of the miniature"
    script:
        "../workflow_scripts/calibrate_miniature.py"


# `snakemake train_miniature`: everything from nothing, each stage behind a gate, measured in the end.
rule train_miniature:
    input:
        "results/miniature/measured/trained.md",
    localrule: True


# `snakemake evaluate_miniature`: measures the weights in resources/miniature.
rule evaluate_miniature:
    input:
        "results/miniature/measured/shipped.md",
    localrule: True
