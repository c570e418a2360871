"""Which scorers an experiment asks: roles resolved, and everything refused that they could not answer."""

from collections.abc import Mapping, Sequence

from graftwork.core.errors import DesignError, require_known, suggest
from graftwork.core.inputs import Reference
from graftwork.models.catalog import ModelCatalog
from graftwork.models.families import scorer_family
from graftwork.scores.questions import ChosenScorer, Scoring, asking_scores
from graftwork.scores.registry import Question, scores


def choose_scorers(
    names: Sequence[str],
    chosen: Mapping[str, str],
    captions: Mapping[str, str],
    references: Sequence[Reference],
    models: ModelCatalog,
    file: str,
) -> Scoring:
    """Returns what scorers are asked for an experiment.

    Args:
        names: its scores.
        chosen: role -> name of a scorer.
        captions: name of a reference -> what it shows.
        references: its references.
        models: all models.
        file: path of the experiment, for messages.

    Raises:
        DesignError: for a role without a scorer or with one that cannot do what is asked, a score that needs references
            where there are none, and captions of references that there are not.
    """
    asking = asking_scores(names)
    found: dict[str, ChosenScorer] = {}
    for name in asking:
        for question in scores()[name].questions:
            if question.about == "reference" and not references:
                raise DesignError(
                    f"{file}: scores: {name} compares images with references, and there are none; set base.references, or "
                    f"remove {name} from scores"
                )
            found[question.role] = _scorer_of(name, question, chosen, models, file)
    sha256s = {reference.name: reference.sha256 for reference in references}
    for name in captions:
        require_known(name, sha256s, "reference of this experiment", f"{file}: reference_captions")
    return Scoring(asking, found, {sha256s[name]: text for name, text in captions.items()} if asking else {})


def _scorer_of(
    score: str, question: Question, chosen: Mapping[str, str], models: ModelCatalog, file: str
) -> ChosenScorer:
    where = f"{file}: scorers.{question.role}"
    if question.role not in chosen:
        raise DesignError(
            f"{file}: scores: {score} asks a scorer for the role {question.role!r}, and none is chosen; set "
            f"scorers: {{{question.role}: NAME}} there, or under families in {models.file}{suggest(question.role, chosen)}; "
            f"scorers: {', '.join(models.names('scorer')) or 'none'}"
        )
    model = models.get("scorer", chosen[question.role], where)
    family = scorer_family(model.facts.family)
    if question.quantity not in family.quantities:
        raise DesignError(
            f"{where}: {model.name!r} is of family {family.name}, which gives {', '.join(family.quantities)}; {score} needs "
            f"{question.quantity}"
        )
    return ChosenScorer(model.name, model.entry, model.identity)
