# Pages for people who have only a browser: an index of all results, and summaries that need no other file.
#   in   results/{experiment}/ and results/statistics/{analysis}/: summary.md, plots, .card.json; cards of studies and maps
#   out  results/index.html; summary.html beside each summary.md


rule write_index:
    input:
        cards=card_files(asked_for(PROJECT.settings)),
    output:
        index=INDEX.as_posix(),
    log:
        "logs/write_index.log",
    benchmark:
        "logs/benchmarks/write_index.tsv"
    localrule: True
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        wanted=asked_for(PROJECT.settings),
        code=report_code.index_code(),
    message:
        "Writing the index of all results"
    script:
        "../workflow_scripts/write_index.py"


rule write_summary_page:
    input:
        design="results/{experiment}/design.json",
        table="results/{experiment}/cells.csv",
        full="results/{experiment}/cells_full.csv",
        summary="results/{experiment}/summary.md",
        plots=of_experiment(OUTPUTS.plot_folder),
        # Not read: who asks for the page alone finds what the summary links to.
        grids=lambda wildcards: grid_files([wildcards.experiment]),
        thumbnails=thumbnail_manifests,
    output:
        page=report(
            "results/{experiment}/summary.html",
            caption="report/summary.rst",
            category="Experiments",
            # What has no subcategory is called "Other" beside what has one.
            subcategory="Summaries",
            labels={"experiment": "{experiment}", "what": "summary with images"},
        ),
    log:
        "logs/write_summary_page/{experiment}.log",
    benchmark:
        "logs/benchmarks/write_summary_page/{experiment}.tsv"
    localrule: True
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        pages=of_experiment(OUTPUTS.shown_pages),
        code=report_code.summary_page_code(),
    message:
        "Writing the page of {wildcards.experiment}"
    script:
        "../workflow_scripts/write_summary_page.py"


rule write_analysis_page:
    input:
        summary="results/statistics/{analysis}/summary.md",
    output:
        page=report(
            "results/statistics/{analysis}/summary.html",
            caption="report/analysis.rst",
            category="Analyses",
            labels={"analysis": "{analysis}", "what": "summary with plots"},
        ),
    log:
        "logs/write_analysis_page/{analysis}.log",
    benchmark:
        "logs/benchmarks/write_analysis_page/{analysis}.tsv"
    localrule: True
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        code=report_code.analysis_page_code(),
    message:
        "Writing the page of the analysis {wildcards.analysis}"
    script:
        "../workflow_scripts/write_analysis_page.py"
