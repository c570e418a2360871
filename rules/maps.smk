# The study of maps between encoders. What it reads is extracted and fitted by conditioning.smk.
#   in   config/maps/{maps}.yaml, through its digest; images of an experiment
#   out  results/maps/{maps}/: report.md, report.html, plots, and the tables that they are made of


checkpoint plan_maps:
    output:
        plan="results/plan/maps.{maps}/maps.json",
    log:
        "logs/plan_maps/{maps}.log",
    benchmark:
        "logs/benchmarks/plan_maps/{maps}.tsv"
    localrule: True
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        digest=design_error(lambda wildcards: scope_digest(f"maps.{wildcards.maps}")),
        config=PROJECT.identity_settings(),
        hardware=PROJECT.settings.hardware.model_dump(),
        sharding=PROJECT.settings.sharding.model_dump(),
    message:
        "Planning maps ({wildcards.maps})"
    script:
        "../workflow_scripts/plan_maps.py"


rule measure_maps:
    input:
        plan="results/plan/maps.{maps}/maps.json",
        extraction=lambda wildcards: extraction_manifests(f"maps.{wildcards.maps}"),
        maps=lambda wildcards: map_manifests(f"maps.{wildcards.maps}"),
    output:
        metrics="results/maps/{maps}/metrics.csv",
        curves="results/maps/{maps}/curves.csv",
        velocities="results/maps/{maps}/velocities.csv",
        problems="results/maps/{maps}/problems.txt",
    log:
        "logs/measure_maps/{maps}.log",
    benchmark:
        "logs/benchmarks/measure_maps/{maps}.tsv"
    priority: 1
    threads: 2
    resources:
        gpu=1,
        mem_mb=48000,
        runtime=120,
    params:
        code=report_code.map_measure_code(),
    message:
        "Measuring maps ({wildcards.maps})"
    script:
        "../workflow_scripts/measure_maps.py"


rule report_maps:
    input:
        plan="results/plan/maps.{maps}/maps.json",
        metrics="results/maps/{maps}/metrics.csv",
        curves="results/maps/{maps}/curves.csv",
        problems="results/maps/{maps}/problems.txt",
        means=lambda wildcards: means_of_maps(wildcards.maps),
        grids=lambda wildcards: grids_of_maps(wildcards.maps),
    output:
        markdown="results/maps/{maps}/report.md",
        html=report(
            "results/maps/{maps}/report.html",
            caption="report/maps.rst",
            category="Maps",
            labels={"maps": "{maps}", "what": "report with plots"},
        ),
        card="results/maps/{maps}/.card.json",
        plots=expand("results/maps/{{maps}}/plots/{plot}.png", plot=MAP_PLOTS),
    log:
        "logs/report_maps/{maps}.log",
    benchmark:
        "logs/benchmarks/report_maps/{maps}.tsv"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        code=report_code.map_report_code(),
        grids=lambda wildcards: grids_of_maps(wildcards.maps),
    message:
        "Writing the report of maps ({wildcards.maps})"
    script:
        "../workflow_scripts/report_maps.py"


# `snakemake maps`: the files of maps named in config/config.yaml, with the images of their experiments.
rule maps:
    input:
        expand("results/maps/{maps}/report.md", maps=PROJECT.settings.maps),
    localrule: True
