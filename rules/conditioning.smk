# From cells to conditioning: hidden states are extracted once per input and layer, statistics of corpora measured on
# them, then they are transformed. Extraction and measuring serve the analyses of statistics.smk too.
#   in   results/{experiment}/design.json of every experiment of the scope
#   out  results/store/hidden_states/, results/store/statistics/, results/store/maps/, results/store/conditioning/,
#        results/store/recipes/


# Words for references, where a control asks for them: they have to be known before hidden states are planned.
rule write_captions:
    input:
        designs=designs_of_scope,
    output:
        manifest="results/plan/{scope}/captions/{shard}.json",
    log:
        "logs/write_captions/{scope}/{shard}.log",
    benchmark:
        "logs/benchmarks/write_captions/{scope}/{shard}.tsv"
    priority: 1
    threads: 2
    resources:
        gpu=1,
        mem_mb=48000,
        runtime=120,
    params:
        hardware=PROJECT.settings.hardware.model_dump(),
    message:
        "Putting references into words"
    script:
        "../workflow_scripts/write_captions.py"


checkpoint plan_conditioning:
    input:
        designs=designs_of_scope,
        captions=of_scope(caption_manifests),
    output:
        plan="results/plan/{scope}/conditioning.json",
    log:
        "logs/plan_conditioning/{scope}.log",
    benchmark:
        "logs/benchmarks/plan_conditioning/{scope}.tsv"
    localrule: True
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        digest=of_scope(scope_digest),
        hardware=PROJECT.settings.hardware.model_dump(),
        sharding=PROJECT.settings.sharding.model_dump(),
        # Not used here; whatever makes plan_images run must make this run, see plan_conditioning.py.
        keep_conditioning=PROJECT.settings.keep_conditioning,
    message:
        "Planning hidden states and conditioning ({wildcards.scope})"
    script:
        "../workflow_scripts/plan_conditioning.py"


rule extract_hidden_states:
    output:
        manifest="results/plan/{scope}/hidden_states/{shard}.json",
    log:
        "logs/extract_hidden_states/{scope}/{shard}.log",
    benchmark:
        "logs/benchmarks/extract_hidden_states/{scope}/{shard}.tsv"
    priority: 1
    threads: 2
    resources:
        gpu=1,
        mem_mb=48000,
        runtime=120,
    message:
        "Extracting hidden states, shard {wildcards.shard}"
    script:
        "../workflow_scripts/extract_hidden_states.py"


rule measure_statistics:
    input:
        extraction=lambda wildcards: extraction_manifests(wildcards.scope),
    output:
        manifest="results/plan/{scope}/statistics/{shard}.json",
    log:
        "logs/measure_statistics/{scope}/{shard}.log",
    benchmark:
        "logs/benchmarks/measure_statistics/{scope}/{shard}.tsv"
    resources:
        mem_mb=16000,
        runtime=120,
    message:
        "Measuring statistics, shard {wildcards.shard}"
    script:
        "../workflow_scripts/measure_statistics.py"


# Maps between encoders; maps.smk has the study of them.
rule fit_maps:
    input:
        extraction=lambda wildcards: extraction_manifests(wildcards.scope),
    output:
        manifest="results/plan/{scope}/maps/{shard}.json",
    log:
        "logs/fit_maps/{scope}/{shard}.log",
    benchmark:
        "logs/benchmarks/fit_maps/{scope}/{shard}.tsv"
    threads: 2
    resources:
        mem_mb=8000,
        runtime=240,
    message:
        "Fitting maps, shard {wildcards.shard}"
    script:
        "../workflow_scripts/fit_maps.py"


rule condition:
    input:
        extraction=lambda wildcards: extraction_manifests(wildcards.scope),
        statistics=lambda wildcards: statistics_manifests(wildcards.scope),
        maps=lambda wildcards: map_manifests(wildcards.scope),
    output:
        manifest="results/plan/{scope}/conditioning/{shard}.json",
    log:
        "logs/condition/{scope}/{shard}.log",
    benchmark:
        "logs/benchmarks/condition/{scope}/{shard}.tsv"
    resources:
        mem_mb=16000,
        runtime=240,
    message:
        "Building conditioning, shard {wildcards.shard}"
    script:
        "../workflow_scripts/condition.py"
