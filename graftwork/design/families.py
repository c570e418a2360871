"""One experiment for several families of models: roles stand for names, and a file says what a family changes.

A family (`families` in config/models.yaml) names the model of each role, such as `vl`, and gives defaults such as the
generator and the size of images. `family` in config/config.yaml chooses one.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from graftwork.core.errors import DesignError, explain, require_known
from graftwork.design.schema import Base, FamilyChanges
from graftwork.design.settings import Family, Models

# Keys of a family's changes that take the place of the experiment's as a whole.
_REPLACED = ("grids", "scores", "controls", "words", "edit", "ip_adapter")


def check_families(models: Models, chosen: str | None, models_file: str, file: str) -> None:
    """Refuses families whose roles are models themselves or stand for none, and a family that there is not.

    Args:
        models: content of the models file.
        chosen: `family` in the settings, or None.
        models_file: for messages.
        file: path of the settings, for messages.

    Raises:
        DesignError: naming the value, what is allowed, file and key.
    """
    if chosen is not None:
        require_known(chosen, models.families, "family", f"{file}: family")
    for name, family in models.families.items():
        where = f"{models_file}: families.{name}"
        for role, encoder in family.encoders.items():
            require_known(encoder, models.encoders, "encoder", f"{where}.encoders.{role}")
            if role in models.encoders:
                raise DesignError(
                    f"{where}.encoders: {role!r} is an encoder itself; give the role another name"
                )
        for role, scorer in family.scorers.items():
            require_known(scorer, models.scorers, "scorer", f"{where}.scorers.{role}")
        try:
            Base.model_validate({"prompts": ["any"], **family.defaults})
        except ValidationError as error:
            raise explain(error, models_file, Base, f"families.{name}.defaults") from error


def experiment_of_family(raw: Any, chosen: str | None, families: Mapping[str, Family], file: str) -> Any:
    """Returns the content of an experiment file as it is for one family.

    Entries under `families` take the place of entries elsewhere in the file, one parameter, axis or setting at a
    time; then roles are replaced by names of models.

    Args:
        raw: content of the file, not validated.
        chosen: name of the family, or None: then roles are not known, and nothing is changed.
        families: all families of config/models.yaml by name.
        file: path of the file, for messages.

    Raises:
        DesignError: for a family that config/models.yaml does not have, and for changes of another form.
    """
    if not isinstance(raw, dict):
        return raw
    plain = {key: value for key, value in raw.items() if key != "families"}
    changes = raw.get("families") or {}
    for name, change in changes.items() if isinstance(changes, dict) else ():
        require_known(name, families, "family", f"{file}: families")
        try:
            FamilyChanges.model_validate(change)
        except ValidationError as error:
            raise explain(error, file, FamilyChanges, f"families.{name}") from error
    if chosen is None:
        return plain
    family = families[chosen]
    changed = _changed(plain, changes.get(chosen, {}))
    if family.words is not None and changed.get("controls") and changed.get("words") is None:
        changed["words"] = family.words.model_dump()
    named = _with_names(changed, family.encoders)
    own = named.get("scorers", {})
    if family.scorers and isinstance(own, dict):
        named["scorers"] = {**family.scorers, **own}
    return named


def analysis_of_family(raw: Any, chosen: str | None, families: Mapping[str, Family], file: str) -> Any:
    """Returns the content of an analysis file as it is for one family: its changes, and names in place of roles.

    Args:
        raw: content of the file, not validated.
        chosen: name of the family, or None: then roles are not known, and nothing is changed.
        families: all families of config/models.yaml by name.
        file: path of the file, for messages.

    Raises:
        DesignError: for a family that config/models.yaml does not have.
    """
    changes = raw.get("families") if isinstance(raw, dict) else None
    if isinstance(changes, dict):
        for name in changes:
            require_known(name, families, "family", f"{file}: families")
    if chosen is None or not isinstance(raw, dict):
        return raw
    change = changes.get(chosen) if isinstance(changes, dict) else None
    given = (
        {key: value for key, value in change.items() if value is not None} if isinstance(change, dict) else {}
    )
    return _with_names({**raw, **given}, families[chosen].encoders)


def _changed(plain: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the content with the changes of a family; null takes an axis or a setting away."""
    result = {**plain, **{key: change[key] for key in _REPLACED if key in change}}
    for key in ("base", "axes"):
        if key in change:
            result[key] = {**plain.get(key, {}), **change[key]}
    if "axes" in change:
        result["axes"] = {name: values for name, values in result["axes"].items() if values is not None}
    if "settings" in change:
        known = plain.get("settings", {})
        changed = {
            name: parameters and {**known.get(name, {}), **parameters}
            for name, parameters in change["settings"].items()
        }
        result["settings"] = {
            name: values for name, values in {**known, **changed}.items() if values is not None
        }
    return result


def _with_names(node: Any, roles: Mapping[str, str]) -> Any:
    """Returns the content with the names of models in place of roles, under every key `encoder`."""
    if isinstance(node, list):
        return [_with_names(item, roles) for item in node]
    if not isinstance(node, dict):
        return node
    named = {}
    for key, value in node.items():
        if key != "encoder":
            named[key] = _with_names(value, roles)
        elif isinstance(value, list):
            named[key] = [roles.get(item, item) if isinstance(item, str) else item for item in value]
        else:
            named[key] = roles.get(value, value) if isinstance(value, str) else value
    return named
