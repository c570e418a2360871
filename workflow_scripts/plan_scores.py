"""Plans what scorers have not said yet."""

from pathlib import Path

from graftwork.core.records import from_json, read_record, write_record
from graftwork.design.cells import Design
from graftwork.design.settings import Hardware, Sharding
from graftwork.jobs.planned import ending_in_words, require_inputs
from graftwork.jobs.record import open_log
from graftwork.planning.plan import ImagePlan
from graftwork.planning.scoring import plan_scoring, scoring_digest
from graftwork.scores.questions import Scoring
from graftwork.store.layout import Store


def main(snakemake):
    log = open_log(snakemake.log[0])
    store, params = Store(Path("results/store")), snakemake.params
    designs = [read_record(Design, path) for path in snakemake.input.designs]
    hardware, sharding = Hardware.model_validate(params.hardware), Sharding.model_validate(params.sharding)
    asked = {name: from_json(Scoring, scoring) for name, scoring in params.asked.items()}
    with ending_in_words(log):
        require_inputs(snakemake.wildcards.scope, params.digest, lambda: scoring_digest(asked, hardware))
    images = read_record(ImagePlan, snakemake.input.plan)
    plan = plan_scoring(designs, asked, images, hardware, sharding, store)
    log.info("%s comparisons to make in %s shards", len(plan.shard_of), len(plan.shards))
    write_record(Path(snakemake.output.plan), plan)


if "snakemake" in globals():
    main(globals()["snakemake"])
