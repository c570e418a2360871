# Statistics for people: encoders over a corpus, compared. What they read is extracted and measured by conditioning.smk.
#   in   config/statistics/{analysis}.yaml, through its digest
#   out  results/statistics/{analysis}/: summary.md, and beside it tables and plots, which the plan's files.json lists


checkpoint plan_statistics:
    output:
        plan="results/plan/statistics.{analysis}/statistics.json",
    log:
        "logs/plan_statistics/{analysis}.log",
    benchmark:
        "logs/benchmarks/plan_statistics/{analysis}.tsv"
    localrule: True
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        digest=design_error(lambda wildcards: scope_digest(f"statistics.{wildcards.analysis}")),
        design=design_error(lambda wildcards: PROJECT.analysis(wildcards.analysis).digest),
        config=PROJECT.identity_settings(),
        hardware=PROJECT.settings.hardware.model_dump(),
        sharding=PROJECT.settings.sharding.model_dump(),
    message:
        "Planning statistics ({wildcards.analysis})"
    script:
        "../workflow_scripts/plan_statistics.py"


# Tables and plots are not declared: there are dozens, and one job reads the hidden states once for all of them.
rule analyze_statistics:
    input:
        plan="results/plan/statistics.{analysis}/statistics.json",
        extraction=lambda wildcards: extraction_manifests(f"statistics.{wildcards.analysis}"),
        statistics=lambda wildcards: statistics_manifests(f"statistics.{wildcards.analysis}"),
    output:
        summary="results/statistics/{analysis}/summary.md",
        card="results/statistics/{analysis}/.card.json",
    log:
        "logs/analyze_statistics/{analysis}.log",
    benchmark:
        "logs/benchmarks/analyze_statistics/{analysis}.tsv"
    resources:
        mem_mb=16000,
        runtime=120,
    params:
        code=report_code.analysis_code(),
    message:
        "Analyzing statistics ({wildcards.analysis})"
    script:
        "../workflow_scripts/analyze_statistics.py"


# Says, after the summary is written, what could not be measured; the run is judged by `judge_run`.
rule judge_statistics:
    input:
        summary="results/statistics/{analysis}/summary.md",
        extraction=lambda wildcards: extraction_manifests(f"statistics.{wildcards.analysis}"),
        statistics=lambda wildcards: statistics_manifests(f"statistics.{wildcards.analysis}"),
    output:
        measured="results/plan/statistics.{analysis}/measured.txt",
    log:
        "logs/judge_statistics/{analysis}.log",
    benchmark:
        "logs/benchmarks/judge_statistics/{analysis}.tsv"
    localrule: True
    resources:
        mem_mb=2000,
        runtime=10,
    message:
        "Counting what failed ({wildcards.analysis})"
    script:
        "../workflow_scripts/judge_statistics.py"


# `snakemake statistics`: the analyses named in config/config.yaml.
rule statistics:
    input:
        analysis_files(PROJECT.settings.statistics),
        expand("results/statistics/{analysis}/summary.html", analysis=PROJECT.settings.statistics),
    localrule: True
