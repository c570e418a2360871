# From conditioning to images: the plan says which are missing, each shard loads the generator once.
#   in   results/store/conditioning/
#   out  results/store/images/


checkpoint plan_images:
    input:
        designs=designs_of_scope,
        plan="results/plan/{scope}/conditioning.json",
        captions=of_scope(caption_manifests),
        conditioning=lambda wildcards: conditioning_manifests(wildcards.scope),
    output:
        plan="results/plan/{scope}/images.json",
    log:
        "logs/plan_images/{scope}.log",
    benchmark:
        "logs/benchmarks/plan_images/{scope}.tsv"
    localrule: True
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        digest=of_scope(scope_digest),
        hardware=PROJECT.settings.hardware.model_dump(),
        sharding=PROJECT.settings.sharding.model_dump(),
        keep_conditioning=PROJECT.settings.keep_conditioning,
    message:
        "Planning images ({wildcards.scope})"
    script:
        "../workflow_scripts/plan_images.py"


rule generate_images:
    output:
        manifest="results/plan/{scope}/images/{shard}.json",
    log:
        "logs/generate_images/{scope}/{shard}.log",
    benchmark:
        "logs/benchmarks/generate_images/{scope}/{shard}.tsv"
    priority: 1
    threads: 2
    resources:
        gpu=1,
        mem_mb=48000,
        runtime=480,
    message:
        "Generating images, shard {wildcards.shard}"
    script:
        "../workflow_scripts/generate_images.py"


# `snakemake accept`, after an edit of the sampling code: adopts existing images if a sample renders to equal bytes.
rule accept:
    input:
        designs=expand("results/{experiment}/design.json", experiment=PROJECT.settings.experiments),
    log:
        "logs/accept.log",
    priority: 1
    threads: 2
    resources:
        gpu=1,
        mem_mb=48000,
        runtime=60,
    params:
        hardware=PROJECT.settings.hardware.model_dump(),
        samples=PROJECT.settings.accept_samples,
    message:
        "Comparing a sample of images under the present sampling code"
    script:
        "../workflow_scripts/accept.py"
