# The validated configuration, and the functions that say what depends on what.
import contextlib
import io
import re
import sys
from pathlib import Path

from snakemake.cli import parse_args

sys.path.insert(0, workflow.basedir)

from graftwork.core.errors import DesignError
from graftwork.planning.scope import Scopes, load_project, make_importable
from graftwork.reports import code as report_code
from graftwork.scores.outputs import all_summaries

make_importable(workflow.basedir)

try:
    PROJECT = load_project(config)
    SCOPES = Scopes(PROJECT)
except DesignError as error:
    raise WorkflowError(str(error)) from None

# A total for `gpu`: without one, `resources: gpu=1` limits nothing and every GPU job would start at once.
# `--resources gpu=N` and profiles come first.
workflow.global_resources.setdefault("gpu", PROJECT.settings.hardware.gpus)


wildcard_constraints:
    experiment="|".join(PROJECT.experiment_names()),
    scope="|".join(map(re.escape, ["all", *PROJECT.experiment_names(), *SCOPES.analyses.scopes()])),
    analysis="|".join(PROJECT.analysis_names()),
    shard="[0-9a-f]{16}",
    page="[A-Za-z0-9_]+",
    plot="[A-Za-z0-9_]+",
    summary="|".join(all_summaries()),


def design_error(function):
    """Turns errors in an experiment file into Snakemake's kind, which are shown without a traceback."""

    def called(*arguments):
        try:
            return function(*arguments)
        except DesignError as error:
            raise WorkflowError(str(error)) from None

    return called


def of_experiment(function):
    return design_error(lambda wildcards: function(wildcards.experiment))


def of_analysis(function):
    return design_error(lambda wildcards: function(wildcards.analysis))


def of_scope(function):
    return design_error(lambda wildcards: function(wildcards.scope))


@design_error
def grid_pages(experiments):
    return [
        f"results/{experiment}/grids/{page}.png"
        for experiment in experiments
        for page in SCOPES.pages(experiment)
    ]


@design_error
def score_files(experiments):
    return [
        f"results/{experiment}/{name}"
        for experiment in experiments
        for name in SCOPES.score_files(experiment)
    ]


def experiment_summaries(experiments):
    return expand("results/{experiment}/{file}", experiment=experiments, file=["summary.md", "no_ops.csv"])


@design_error
def score_summaries(experiment):
    return [f"results/{experiment}/{name}" for name in SCOPES.score_summaries(experiment)]


@design_error
def summary_of_plot(experiment, plot):
    return f"results/{experiment}/{SCOPES.plot(experiment, plot).table}.csv"


def designs_of_scope(wildcards):
    return expand("results/{experiment}/design.json", experiment=SCOPES.experiments(wildcards.scope))


def conditioning_plan(scope):
    return SCOPES.read_plan(checkpoints.plan_conditioning.get(scope=scope).output.plan)


def image_plan(scope):
    return SCOPES.read_plan(checkpoints.plan_images.get(scope=scope).output.plan)


def inputs_plan(scope):
    """The plan of hidden states and statistics: of cells, or of an analysis."""
    analysis = SCOPES.analyses.name_of(scope)
    if analysis is None:
        return conditioning_plan(scope)
    return SCOPES.read_plan(checkpoints.plan_statistics.get(analysis=analysis).output.plan)


def extraction_manifests(scope):
    shards = inputs_plan(scope)["extraction"]
    return expand("results/plan/{scope}/hidden_states/{shard}.json", scope=scope, shard=shards)


def statistics_manifests(scope):
    shards = inputs_plan(scope)["statistics"]
    return expand("results/plan/{scope}/statistics/{shard}.json", scope=scope, shard=shards)


def conditioning_manifests(scope):
    shards = conditioning_plan(scope)["conditioning"]
    return expand("results/plan/{scope}/conditioning/{shard}.json", scope=scope, shard=shards)


def image_manifests(scope, experiment=None):
    shards = SCOPES.image_shards(image_plan(scope), experiment)
    return expand("results/plan/{scope}/images/{shard}.json", scope=scope, shard=shards)


def plan_and_manifests(scope):
    """Plans and manifests by name: Snakemake makes a missing file again only if a target asks for it."""

    def files(wildcards):
        return [
            f"results/plan/{scope}/conditioning.json",
            f"results/plan/{scope}/images.json",
            *extraction_manifests(scope),
            *statistics_manifests(scope),
            *conditioning_manifests(scope),
            *image_manifests(scope),
        ]

    return files


def analysis_files(analyses):
    """Summaries, and what says that no part of them failed; `verdict.txt` would be another rule's too."""
    return [
        *expand("results/statistics/{analysis}/summary.md", analysis=analyses),
        *expand("results/plan/statistics.{analysis}/measured.txt", analysis=analyses),
    ]


# What `snakemake` can be asked for instead of running jobs.
OTHER_MODES = """archive cleanup_metadata conda_cleanup_envs conda_create_envs_only container_cleanup_images containerize
d3dag dag delete_all_output delete_temp_output detailed_summary filegraph lint list_changes list_conda_envs
list_input_changes list_params_changes list_rules list_target_rules list_untracked print_compilation report rulegraph
summary touch unlock""".split()


@design_error
def announce_plan():
    """Before a dry run: says what a run would make. Before a real run: plans again what has been damaged."""
    if not workflow.is_main_process or Path(sys.argv[0]).name not in ("snakemake", "__main__.py"):
        return
    # Snakemake knows only after the Snakefile is read whether it will run jobs; its parser knows now.
    with contextlib.redirect_stderr(io.StringIO()):
        options = parse_args(sys.argv[1:])[1]
    if options.dryrun or options.executor == "dryrun":
        for scope in SCOPES.scopes_of(options.targets):
            print(SCOPES.describe(scope), file=sys.stderr)
        return
    PROJECT.save_facts()  # Not before a dry run, which leaves nothing behind.
    if not any(getattr(options, mode, None) for mode in OTHER_MODES) and options.executor != "touch":
        for line in SCOPES.heal(options.targets):
            print(line, file=sys.stderr)
