"""Token modes: which tokens of the source take part, chosen by their role.

Each function takes the roles of a sequence, uint8 (tokens,), and its parameters. It returns a mask, bool (tokens,).
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from graftwork.core.parameters import parameter
from graftwork.models.tokens import ROLE_CODES, SOURCE_ROLES
from graftwork.transforms.context import IMAGE_TOKENS
from graftwork.transforms.registry import TransformParameters, register

_SOURCE = "selections over token roles, as the project defines them"


def has_role(roles: np.ndarray, *names: str) -> np.ndarray:
    """Returns where the role of a token is one of `names`: uint8 (tokens,) to bool (tokens,)."""
    return np.isin(roles, [ROLE_CODES[name] for name in names])


@register(
    "token_mode",
    "full",
    formula="every token",
    source=_SOURCE,
    is_default=True,
    selects_all=True,
    examples={"full": {}},
)
def select_full(roles: np.ndarray, parameters: TransformParameters) -> np.ndarray:
    """Selects every token."""
    return np.ones(roles.shape, dtype=bool)


@register(
    "token_mode",
    "text_only",
    formula="all but image and vision markers",
    source=_SOURCE,
    examples={"text_only": {"alpha": 0.5}},
)
def select_text_only(roles: np.ndarray, parameters: TransformParameters) -> np.ndarray:
    """Selects all but image tokens and their markers; the chat template is kept."""
    return ~has_role(roles, "image", "vision_marker")


@register(
    "token_mode",
    "image_only",
    formula="image and vision markers",
    source=_SOURCE,
    needs=(IMAGE_TOKENS,),
    examples={"image_only": {}},
)
def select_image_only(roles: np.ndarray, parameters: TransformParameters) -> np.ndarray:
    """Selects image tokens with their markers."""
    return has_role(roles, "image", "vision_marker")


@register(
    "token_mode",
    "image_no_markers",
    formula="image tokens alone",
    source=_SOURCE,
    needs=(IMAGE_TOKENS,),
    examples={"image_no_markers": {}},
)
def select_image_no_markers(roles: np.ndarray, parameters: TransformParameters) -> np.ndarray:
    """Selects image tokens alone."""
    return has_role(roles, "image")


@register(
    "token_mode",
    "prompt_only",
    formula="tokens of the prompt",
    source=_SOURCE,
    examples={"prompt_only": {}},
)
def select_prompt_only(roles: np.ndarray, parameters: TransformParameters) -> np.ndarray:
    """Selects the tokens of the user's prompt, without template, sink and image."""
    return has_role(roles, "prompt")


def _each_once(roles: list[str]) -> list[str]:
    if len(set(roles)) < len(roles):
        raise PydanticCustomError("roles", "a list in which no role occurs twice")
    return sorted(roles, key=SOURCE_ROLES.index)


class RolesParameters(TransformParameters):
    """Parameters of `select_roles`."""

    token_roles: (
        Annotated[list[Literal[SOURCE_ROLES]], Field(min_length=1), AfterValidator(_each_once)] | None  # type: ignore[valid-type]
    ) = parameter(None, neutral=None, description="Roles of the tokens that `roles` selects.")


def _problem_with_roles(parameters: Mapping[str, Any]) -> str | None:
    chosen, possible = parameters.get("token_roles"), parameters.get("source_has_roles")
    if chosen is None:
        return f"token_mode 'roles' needs token_roles: a list out of {', '.join(SOURCE_ROLES)}"
    if possible is not None and not possible & set(chosen):
        return (
            f"token_roles {chosen} selects nothing: the source of this cell has none of them; allowed: "
            f"{', '.join(role for role in SOURCE_ROLES if role in possible)}"
        )
    return None


@register(
    "token_mode",
    "roles",
    formula="tokens whose role is in token_roles",
    source=_SOURCE,
    parameters=RolesParameters,
    problem_with=_problem_with_roles,
    examples={"roles": {"token_roles": ["sink", "prompt", "image"]}},
)
def select_roles(roles: np.ndarray, parameters: RolesParameters) -> np.ndarray:
    """Selects the tokens of any set of roles."""
    return has_role(roles, *parameters.token_roles)
