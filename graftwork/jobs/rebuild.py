"""Builds conditioning that a job of generation finds gone: python -m graftwork.jobs.rebuild STORE SHARD

Conditioning is dropped when its images exist, and who drops it does not know of other runs on the same store, nor of other
targets of the same run. It is built from hidden states, which are kept. In a process of its own: the number of threads
changes low bits, and that of a process holds for the images that it makes meanwhile.
"""

import json
import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from graftwork.core.code_digest import REPOSITORY
from graftwork.core.records import OtherVersion
from graftwork.planning.shards import ConditioningOfImages, read_shard
from graftwork.store.layout import Store
from graftwork.store.recipes import read_recipes

_log = logging.getLogger("graftwork")


def rebuild_apart(store: Store, shard: str) -> dict[str, str]:
    """Builds what is gone of the conditioning of a shard, in another process.

    Args:
        store: where hidden states are, and conditioning goes.
        shard: name of the shard of images.

    Returns:
        Hash of conditioning that could not be built -> why, as the end of a sentence.
    """
    if not (store.recipes_of_shards / f"{shard}.json").is_file():
        return {}
    _log.warning("conditioning of shard %s is gone, another run dropped it; building it again", shard)
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "graftwork.jobs.rebuild", str(store.root), shard],
        capture_output=True,
        text=True,
        check=False,
        # No GPU: it is this job's.
        env={**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""},
    )
    if done.returncode != 0:
        raise RuntimeError(f"the conditioning is gone, and building it failed: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def rebuild(store: Store, shard: str, log: logging.Logger) -> dict[str, str]:
    """Builds what is gone of the conditioning of a shard; see `rebuild_apart`.

    Args:
        store: where hidden states are, and conditioning goes.
        shard: name of the shard of images.
        log: log of the job.
    """
    from graftwork.jobs.conditioning import condition

    try:
        how = read_shard(ConditioningOfImages, store.recipes_of_shards, shard)
    except (OSError, OtherVersion):
        return {}
    gone = {hash_: key for hash_, key in how.recipe_of.items() if not store.conditioning(hash_).is_file()}
    wanted = {key: how.recipes.recipes[key] for key in gone.values()}
    failures = condition(replace(how.recipes, recipes=wanted), store, log, {}).failures
    rows = read_recipes(store.recipes)
    why = {hash_: f"cannot be built: {failures[key]}" for hash_, key in gone.items() if key in failures}
    for hash_, key in gone.items():
        if key not in failures and rows[key].conditioning != hash_:
            why[hash_] = (
                "what it is built from gives other bytes on this machine now (another CPU, or other versions of libraries); "
                "the next run makes images of these"
            )
    return why


def main(arguments: list[str]) -> None:
    """Prints why conditioning could not be built, as JSON in the last line."""
    root, shard = arguments
    log = logging.getLogger("graftwork")
    log.addHandler(logging.StreamHandler(sys.stderr))
    print(json.dumps(rebuild(Store(Path(root)), shard, log)))


if __name__ == "__main__":
    main(sys.argv[1:])
