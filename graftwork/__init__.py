"""Conditioning of diffusion transformers on hidden states of encoders that they were not trained with.

The workflow (Snakefile, rules/, workflow_scripts/) calls this library; notebooks can import it as well. A package imports
only packages that stand before it in this list:

    core            records, cells, identities, code digests, labels, errors, PNG and NPZ bytes, atomic files, locks, progress
    models          encoders and generators, their catalog and hardware settings
    statistics      moments of hidden states, comparisons, sink tokens
    transforms      the registry of transforms and one module per stage
    store           files under results/store
    conditioning    building the conditioning of a cell
    scenes          the world of the miniature models: scenes, captions, and a reader of pictures
    scores          scores of images
    design          reading and resolving an experiment's configuration
    planning        keys, and what remains to be computed
    reports         grids, charts, tables and pages
    jobs            what the rules run
"""

__version__ = "0.1.0"
