"""Conditioning of diffusion transformers on hidden states of encoders that they were not trained with.

The workflow (Snakefile, rules/, workflow_scripts/) calls this library; notebooks can import it as well. A package imports
only packages that stand before it in this list:

    core            records, cells, identities, code digests, labels, errors, PNG and NPZ bytes, atomic files, locks, progress
    models          encoders and generators, their catalog and hardware settings
    statistics      moments of hidden states, comparisons, sink tokens
    maps            maps between encoders, fitted on pairs of tokens
    transforms      the registry of transforms and one module per stage
    store           files under results/store
    conditioning    building the conditioning of a cell
    scenes          the world of the miniature models: scenes, captions, and a reader of pictures
    scores          scores of images
    design          reading and resolving an experiment's configuration
    planning        keys, and what remains to be computed
    reports         grids, charts, tables and pages
    studies         questions over several experiments, and their reports
    jobs            what the rules run
"""

import os
from typing import Any

# Threads of torch meet some ten thousand times for an image. By default one that waits spins, and where there are fewer free
# cores than threads it keeps the other from the core that it waits for. Changes no byte. Read by OpenMP when torch is
# imported, here and in the processes that are started from here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

# For notebooks. Imported when they are asked for: what they need takes seconds to import.
__all__ = ["load_cells", "load_states"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'graftwork' has no attribute {name!r}")
    from graftwork.jobs.notebooks import load_cells, load_states

    return {"load_cells": load_cells, "load_states": load_states}[name]
