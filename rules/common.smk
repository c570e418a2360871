# The validated configuration, and the functions that say what depends on what.
#
# Rules that run a script say what they need (`resources: mem_mb, runtime` in minutes, for the published models; the
# miniature needs far less) and leave their time and memory in logs/benchmarks/, which git ignores. Clusters take these
# numbers (profiles/slurm); on one machine only `gpu` limits anything.
# Jobs that run a model come first (`priority`): a small job in their place would leave the GPU without work.
import contextlib
import io
import os
import re
import sys
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

from snakemake.cli import parse_args

from graftwork.core.atomic import CannotWrite
from graftwork.core.code_digest import keep_digests, read_kept_digests
from graftwork.core.errors import DesignError
from graftwork.core.labels import printable
from graftwork.core.records import read_record, to_json
from graftwork.design.hardware import keep_choice
from graftwork.design.project import FACTS_FOLDER
from graftwork.planning.analyses import StatisticsPlan
from graftwork.planning.maps import MapsPlan, require_study
from graftwork.planning.outputs import Outputs
from graftwork.planning.plan import ConditioningPlan, ImagePlan
from graftwork.planning.scoring import SCORES, SCORING_PLAN, ScoringPlan
from graftwork.planning.scopes import Scopes, load_project
from graftwork.planning.verdict import Verdict
from graftwork.reports import code as report_code
from graftwork.reports.index import INDEX, asked_for, card_files, note_end, note_start
from graftwork.reports.maps import PLOTS as MAP_PLOTS
from graftwork.reports.terminal import StageLines
from graftwork.reports.viewer.thumbnails import parts_of
from graftwork.scores.outputs import all_summaries
from graftwork.studies.registry import studies

# And so does what was imported here: together a fifth of the CPU time of a start.
leave_alone()

KEPT_DIGESTS = Path(FACTS_FOLDER, "code.json")
read_kept_digests(KEPT_DIGESTS)

try:
    PROJECT = load_project(config, [] if IS_MODULE else workflow.overwrite_configfiles)
    SCOPES = Scopes(
        PROJECT,
        {one.name: ((*one.experiments, *one.designs), one.analyses) for one in studies().values()},
    )
except DesignError as error:
    raise WorkflowError(str(error)) from None

# Jobs keep to what this process has found, on whatever machine they run.
keep_choice(PROJECT.hardware)
OUTPUTS = Outputs(PROJECT)
# The file does not change once a checkpoint is done.
read_once = cache(read_record)

# A total for `gpu`: without one, `resources: gpu=1` limits nothing and every GPU job would start at once.
# `--resources gpu=N` and profiles come first.
workflow.global_resources.setdefault("gpu", PROJECT.settings.hardware.gpus)


wildcard_constraints:
    experiment="|".join(map(re.escape, PROJECT.experiment_names())),
    scope="|".join(map(re.escape, SCOPES.names())),
    analysis="|".join(map(re.escape, PROJECT.analysis_names())),
    maps="|".join(map(re.escape, PROJECT.maps.names())),
    shard="[0-9a-f]{16}",
    page="[A-Za-z0-9_]+",
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


def of_scope(function):
    return design_error(lambda wildcards: function(wildcards.scope))


def scope_digest(scope):
    return SCOPES.get(scope).digest


grid_files = design_error(OUTPUTS.grids)
score_files = design_error(OUTPUTS.score_files)
score_summaries = design_error(OUTPUTS.score_summaries)


def designs_of_scope(wildcards):
    return expand("results/{experiment}/design.json", experiment=SCOPES.experiments(wildcards.scope))


def conditioning_plan(scope):
    return read_once(ConditioningPlan, checkpoints.plan_conditioning.get(scope=scope).output.plan)


def image_plan(scope):
    return read_once(ImagePlan, checkpoints.plan_images.get(scope=scope).output.plan)


def inputs_plan(scope):
    """The plan of hidden states, statistics and maps: of cells, of an analysis, or of a file of maps."""
    kind, _, name = scope.rpartition(".")
    if kind == "statistics":
        return read_once(StatisticsPlan, checkpoints.plan_statistics.get(analysis=name).output.plan)
    if kind == "maps":
        return read_once(MapsPlan, checkpoints.plan_maps.get(maps=name).output.plan)
    return conditioning_plan(scope)


def manifests(scope, stage, shards):
    return expand("results/plan/{scope}/{stage}/{shard}.json", scope=scope, stage=stage, shard=shards)


def caption_manifests(scope):
    return manifests(scope, "captions", SCOPES.get(scope).caption_shards)


def extraction_manifests(scope):
    return manifests(scope, "hidden_states", inputs_plan(scope).extraction)


def statistics_manifests(scope):
    return manifests(scope, "statistics", inputs_plan(scope).statistics)


def map_manifests(scope):
    return manifests(scope, "maps", inputs_plan(scope).maps)


def conditioning_manifests(scope):
    return manifests(scope, "conditioning", conditioning_plan(scope).conditioning)


def image_manifests(scope):
    return manifests(scope, "images", image_plan(scope).shards)


def score_manifests(scope):
    """Manifests of the jobs that ask scorers; none where no experiment of the scope asks any."""
    if not SCOPES.asks_scorers(scope):
        return []
    plan = read_once(ScoringPlan, checkpoints.plan_scores.get(scope=scope).output.plan)
    return manifests(scope, SCORES, plan.shards)


@design_error
def score_manifests_of_experiment(wildcards):
    if not OUTPUTS.scoring(wildcards.experiment).scores:
        return []
    scope = SCOPES.scope_of(wildcards.experiment)
    plan = read_once(ScoringPlan, checkpoints.plan_scores.get(scope=scope).output.plan)
    wanted = plan.keys.get(wildcards.experiment, ())
    return manifests(scope, SCORES, sorted({plan.shard_of[key] for key in wanted if key in plan.shard_of}))


# The plan of images is no input of the rules that read it, but its file and what it says of their experiment are params:
# it is one file for all experiments of a scope, and as an input it would make the tables of all of them anew whenever an
# image of one is planned. Their inputs are the manifests of the jobs that made their own images.


@design_error
def manifests_of_experiment(wildcards):
    scope = SCOPES.scope_of(wildcards.experiment)
    return manifests(scope, "images", OUTPUTS.image_shards(image_plan(scope), wildcards.experiment))


def plan_of_experiment(wildcards):
    return f"results/plan/{SCOPES.scope_of(wildcards.experiment)}/images.json"


@design_error
def planned_cells(wildcards):
    return OUTPUTS.cells_digest(image_plan(SCOPES.scope_of(wildcards.experiment)), wildcards.experiment)


@design_error
def thumbnail_manifests(wildcards):
    parts = parts_of(len(PROJECT.design(wildcards.experiment).cells))
    return [
        f"results/plan/thumbnails/{wildcards.experiment}/{part}_of_{parts}.json"
        for part in range(1, parts + 1)
    ]


@design_error
def experiment_of_maps(maps):
    return require_study(PROJECT.maps.read(maps)).experiment


def means_of_maps(maps):
    """Means of the scores of the experiment whose images a report of maps shows, if it has scores."""
    experiment = experiment_of_maps(maps)
    if experiment is None or not score_files([experiment]):
        return []
    return [f"results/{experiment}/score_means.csv"]


def grids_of_maps(maps):
    experiment = experiment_of_maps(maps)
    return [] if experiment is None else grid_files([experiment])


def plan_and_manifests(scope):
    """Plans and manifests by name: Snakemake makes a missing file again only if a target asks for it."""

    def files(wildcards):
        return [
            f"results/plan/{scope}/conditioning.json",
            f"results/plan/{scope}/images.json",
            *caption_manifests(scope),
            *extraction_manifests(scope),
            *statistics_manifests(scope),
            *map_manifests(scope),
            *conditioning_manifests(scope),
            *image_manifests(scope),
            *([f"results/plan/{scope}/{SCORING_PLAN}"] if SCOPES.asks_scorers(scope) else []),
            *score_manifests(scope),
        ]

    return files


def analysis_files(analyses):
    """Summaries, and what says that no part of them failed; `verdict.txt` would be another rule's too."""
    return [
        *expand("results/statistics/{analysis}/summary.md", analysis=analyses),
        *expand("results/plan/statistics.{analysis}/measured.txt", analysis=analyses),
    ]


def in_zip_report(file, **marks):
    """Marks a folder for reports, but for those that are one HTML file: they can hold no folder and would fail whole."""
    chosen = parse_args(sys.argv[1:])[1].report if "--report" in " ".join(sys.argv) else None
    return file if chosen is not None and chosen.suffix != ".zip" else report(file, **marks)


# What `snakemake` can be asked for instead of running jobs.
OTHER_MODES = """archive cleanup_metadata conda_cleanup_envs conda_create_envs_only container_cleanup_images containerize
d3dag dag delete_all_output delete_temp_output detailed_summary filegraph lint list_changes list_conda_envs
list_input_changes list_params_changes list_rules list_target_rules list_untracked print_compilation report rulegraph
summary touch unlock""".split()


# Set where this process runs jobs: its targets, the handler that writes one line a stage, and why results cannot be written.
RUN = {}


@design_error
def announce_plan():
    """Before a dry run: says what a run would make. Before a real run: plans again what has been damaged.

    While the Snakefile is read, Snakemake 9.27 says whether this is the user's process or a job's, and with -n that this
    is a dry run, but neither the targets nor whether it will run jobs at all: `workflow.dag_settings`,
    `workflow.execution_settings` and `workflow.dryrun` are set when all is read, `onstart` comes when the jobs are chosen, and
    input functions, where all is known, may come too late to remove what they were chosen by, and cannot refuse a
    target without a traceback. Its own parser of the command line knows.
    """
    if not workflow.is_main_process or Path(sys.argv[0]).name not in ("snakemake", "__main__.py"):
        return
    with contextlib.redirect_stderr(io.StringIO()):
        options = parse_args(sys.argv[1:])[1]
    # The targets of a workflow that uses this one as a module are its own: whatever they are, they may need all of this one.
    targets = [] if IS_MODULE else options.targets
    SCOPES.require_models(targets)
    rule_names = [one.name for one in workflow.rules]
    for target in targets:
        is_made = Path(target).exists() or any(one.is_producer(target) for one in workflow.rules)
        OUTPUTS.require(target, is_made, rule_names)
    if workflow.output_settings.dryrun or options.executor == "dryrun":
        lines = SCOPES.describe(targets)
    else:
        RUN["read only"] = SCOPES.why_read_only()
        if RUN["read only"] is None:
            # Not before a dry run, which leaves nothing behind.
            PROJECT.save_facts()
            keep_digests(KEPT_DIGESTS)
        modes = [mode for mode in OTHER_MODES if mode != "report" or not options.report_after_run]
        is_run = not any(getattr(options, mode, None) for mode in modes) and options.executor != "touch"
        # What cannot be written can be looked at: where all is made, nothing is to be done.
        lines = SCOPES.heal(targets) if is_run and RUN["read only"] is None else []
        if is_run and not IS_MODULE:
            prepare_run(options)
    for line in [*PROJECT.hardware.lines, *lines]:
        print(printable(line), file=sys.stderr)


def require_writable():
    """Before the first job: one sentence in place of an error of each job."""
    if RUN.get("read only") is not None:
        logger.error(f"graftwork: {RUN['read only']}")
        # Not an exception that Snakemake shows: it would add the lines of the Snakefile.
        sys.exit(1)


def prepare_run(options):
    """Before a run: the end of it has to be judged, and its terminal gets one line a stage.

    The handler takes the place of Snakemake's own, and is no logger plugin: those are found only where they are
    installed, and a profile that names one which is not there ends every `snakemake` with a usage message.
    """
    if options.no_hooks:
        raise WorkflowError(
            "--no-hooks: failed cells would end with exit status 0, for the run is judged in the hooks of the Snakefile; "
            "run without this option."
        )
    RUN["targets"] = list(options.targets)
    wants_all = (
        options.printshellcmds or options.verbose or options.debug_dag or options.quiet or options.logger
    )
    own = [handler for handler in logger.handlers if handler.name == "DefaultStreamHandler"]
    if wants_all or not own:
        return
    lines = StageLines(own[0].stream, count_jobs)
    lines.setFormatter(own[0].formatter)
    for chosen in own[0].filters:
        lines.addFilter(chosen)
    logger.removeHandler(own[0])
    logger.addHandler(lines)
    RUN["lines"] = lines


def note_run_start():
    """Says in results/index.html what is being made."""
    if "targets" in RUN:
        try:
            keep_digests(KEPT_DIGESTS)  # Those of the jobs' parameters too.
            note_start(asked_for(PROJECT.settings), SCOPES.folders(RUN["targets"]))
        except CannotWrite as error:
            logger.error(f"graftwork: {error}")
            sys.exit(1)


def count_jobs():
    """How many jobs of each rule this run needs, as far as the checkpoints have said."""
    return Counter(job.rule.name for job in workflow.dag.needrun_jobs(exclude_finished=False))


def judge_run(is_over, log):
    """At the end of a run: says what was made, what failed and why. Failed cells end it with exit status 1.

    Snakemake 9.27 calls the hooks in the user's process, under every executor, when all jobs have ended and its lock is
    still held; not in a dry run, not for reports and other modes without jobs, and not where nothing was to be done: then
    nothing has failed before, for `SCOPES.heal` plans again what has. `onerror` is followed by exit status 1 anyway.
    """
    if "targets" not in RUN:
        return
    dag, failed = workflow.dag, defaultdict(list)
    for job in workflow.scheduler.failed if not is_over else ():
        failed[job.rule.name] += map(str, job.log)
    outcomes = SCOPES.judge(RUN["targets"], is_over)
    has_index = not RUN["targets"] or bool({"all", INDEX.as_posix()} & set(RUN["targets"]))
    is_noted = True
    try:
        note_end(asked_for(PROJECT.settings), outcomes, has_index)
    except CannotWrite as error:
        logger.error(f"graftwork: {error}")
        is_noted = False
    verdict = Verdict(
        outcomes,
        made=[str(file) for job in dag.finished_jobs for file in job.output],
        current=[
            str(file) for job in dag.jobs if dag.finished(job) or not dag.needrun(job) for file in job.output
        ],
        failed_jobs=failed,
        log=", ".join(os.path.relpath(file) for file in log),
    )
    if "lines" in RUN:
        RUN["lines"].finish()
    for line in verdict.lines():
        (logger.info if verdict.is_good else logger.error)(line)
    if is_over and not (verdict.is_good and is_noted):
        # Not an exception that Snakemake shows: it would add the line of the Snakefile, and say nothing more.
        sys.exit(1)
