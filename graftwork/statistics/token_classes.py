"""Token classes: the tokens of a sequence that a statistic is computed over, selected by role, sinks aside."""

import numpy as np

from graftwork.models.tokens import ROLE_CODES, ROLES

# A class is a set of roles. Vision markers, thinking and system turns belong to `all` and `non_sink` alone.
TOKEN_CLASSES: dict[str, tuple[str, ...]] = {
    "all": ROLES,
    "non_sink": tuple(role for role in ROLES if role != "sink"),
    "image": ("image",),
    "prompt": ("prompt",),
    "template": ("template",),
}


def select_class(name: str, roles: np.ndarray, sinks: np.ndarray) -> np.ndarray:
    """Returns which tokens are of a class. A sink is of class `all` alone, whatever its role.

    Args:
        name: One of `TOKEN_CLASSES`.
        roles: uint8 (tokens,), codes of `ROLES`.
        sinks: bool (tokens,), which of them are sinks, as `sink.find_sinks` returns it.

    Returns:
        bool (tokens,); all false where the sequence has no token of the class.

    Raises:
        ValueError: for an unknown class, or roles that are no codes of `ROLES`.
    """
    if name not in TOKEN_CLASSES:
        raise ValueError(f"token class {name!r} does not exist; allowed are {', '.join(TOKEN_CLASSES)}")
    check_roles(roles)
    member = np.isin(roles, [ROLE_CODES[role] for role in TOKEN_CLASSES[name]])
    return member if name == "all" else member & ~sinks


def check_roles(roles: np.ndarray, tokens: int | None = None) -> None:
    """Checks that `roles` are codes of `ROLES`, uint8 (tokens,).

    Args:
        roles: Roles of the tokens of a sequence.
        tokens: Expected number of tokens, if known.

    Raises:
        ValueError: where a role is no code, or the number is another one.
    """
    if not isinstance(roles, np.ndarray) or roles.dtype != np.uint8 or roles.ndim != 1:
        found = f"{roles.dtype} {roles.shape}" if isinstance(roles, np.ndarray) else type(roles).__name__
        raise ValueError(f"roles are {found}; they have to be uint8 (tokens,), as stored with hidden states")
    if roles.size and roles.max() >= len(ROLES):
        raise ValueError(f"role {roles.max()} does not exist; codes are 0 to {len(ROLES) - 1}: {ROLES}")
    if tokens is not None and len(roles) != tokens:
        raise ValueError(f"{len(roles)} roles for {tokens} tokens; each token has exactly one")
