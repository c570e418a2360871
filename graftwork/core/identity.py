"""Names that follow from content: canonical JSON, digests, cell ids.

A cell is named by what makes its image, so that the same cell has the same name in every experiment, on
every machine and after every refactoring. Standard library only: this is imported while the workflow is parsed.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

CELL_ID_LENGTH = 16
DIGEST_LENGTH = 32

# The value at which a parameter reproduces what happened before the parameter existed. Append-only: changing or
# removing a line renames cells that exist (tests/unit/design/test_identity.py holds golden names). Defaults do not
# belong here: a changed default must make new cells.
NEUTRAL: dict[str, Any] = {
    "text_hidden_layer": -2,
    "normalization": "none",
    "target_std": "prompt",
    "masking": "none",
    "masking_tokens": "image",
    "masking_direction": "both",
    "masking_threshold": 10.0,
    "masking_dimensions": None,
    "masking_sigma": 3.0,
    "statistics": "prompt",
    "clip_sigma": 3.0,
    "hybrid_weight": 0.5,
    "whiten_shrinkage": 0.01,
    "pool_temperature": 1.0,
    "style_dimensions": None,
    "curve": "linear",
    "curve_start": 0.0,
    "curve_end": 1.0,
    "token_alphas": None,
    "token_importance": None,
    "noise_seed": 0,
    "concat_tokens": None,
    "image_share": 0.5,
    "source": "hidden_states",
    "source_text": "prompt",
    "prompt_format": "chat",
    "system_prompt": None,
    "think_block": "template",
    "rope_theta": None,
    "positions": "checkpoint",
    "text_prompt_format": "chat",
    "text_system_prompt": None,
    "text_think_block": "template",
    "token_roles": None,
    "combination": "none",
    "reference_weights": None,
    "layer_weights": None,
    "neutral_reference": "grey",
    "delta_normalize": False,
    "delta_scale_to_text": False,
    "alpha_schedule": None,
    "negative_prompt": None,
    "cfg_normalization": 0.0,
    "cfg_truncation": 1.0,
    "init_image": None,
    "strength": 0.6,
    "dimension_fix": "none",
    "fix_corpus": None,
    "fix_tokens": "non_sink",
}


def canonical_json(value: Any) -> str:
    """Returns one text per value: sorted keys, no spaces, shortest floats, no distinction of -0.0.

    Raises:
        ValueError: for NaN and infinities, which have no JSON.
        TypeError: for keys that are not strings and for types without a JSON form.
    """
    return json.dumps(
        _canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest(value: Any) -> str:
    """Returns the first 32 hex digits (128 bit) of the SHA-256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:DIGEST_LENGTH]


def cell_id(parameters: Mapping[str, Any]) -> str:
    """Returns the name of the cell with these resolved parameters.

    Args:
        parameters: Resolved: prompts as text, references as content hashes, models as identities. A parameter at
            its neutral value is left out, so that parameters added later rename nothing.
    """
    explicit = {
        name: value
        for name, value in parameters.items()
        if not (name in NEUTRAL and _canonical(NEUTRAL[name]) == _canonical(value))
    }
    return digest(explicit)[:CELL_ID_LENGTH]


def _canonical(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} cannot be part of an identity: only finite numbers can")
        return value + 0.0  # -0.0 becomes 0.0
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{key!r} cannot be a key of an identity: keys must be strings")
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    raise TypeError(f"{value!r} of type {type(value).__name__} cannot be part of an identity")
