"""Token modes: which tokens of the source take part, chosen by their role.

Each function takes the roles of a sequence, uint8 (tokens,), and returns a mask, bool (tokens,).
"""

import numpy as np

from workflow_scripts.lib.conditioning.registry import register
from workflow_scripts.lib.models.tokens import ROLE_CODES

_SOURCE = "selections over token roles, as the project defines them"


def has_role(roles: np.ndarray, *names: str) -> np.ndarray:
    """Returns where the role of a token is one of `names`: uint8 (tokens,) to bool (tokens,)."""
    return np.isin(roles, [ROLE_CODES[name] for name in names])


@register("token_mode", "full", formula="every token", source=_SOURCE)
def select_full(roles: np.ndarray) -> np.ndarray:
    """Selects every token."""
    return np.ones(roles.shape, dtype=bool)


@register(
    "token_mode",
    "text_only",
    formula="all but image and vision markers",
    source=_SOURCE,
    relies_on=[has_role],
)
def select_text_only(roles: np.ndarray) -> np.ndarray:
    """Selects all but image tokens and their markers; the chat template is kept."""
    return ~has_role(roles, "image", "vision_marker")


@register(
    "token_mode", "image_only", formula="image and vision markers", source=_SOURCE, relies_on=[has_role]
)
def select_image_only(roles: np.ndarray) -> np.ndarray:
    """Selects image tokens with their markers."""
    return has_role(roles, "image", "vision_marker")


@register(
    "token_mode", "image_no_markers", formula="image tokens alone", source=_SOURCE, relies_on=[has_role]
)
def select_image_no_markers(roles: np.ndarray) -> np.ndarray:
    """Selects image tokens alone."""
    return has_role(roles, "image")


@register("token_mode", "prompt_only", formula="tokens of the prompt", source=_SOURCE, relies_on=[has_role])
def select_prompt_only(roles: np.ndarray) -> np.ndarray:
    """Selects the tokens of the user's prompt, without template, sink and image."""
    return has_role(roles, "prompt")
