"""The score `pickscore`: how an image compares with its prompt in one vector space."""

from graftwork.models.scorer import TEXT_LOGIT
from graftwork.scores.registry import Column, Question, Score, prompt_truncated, register

register(
    Score(
        name="pickscore",
        meaning=(
            "Preference for the image given the prompt: cosine times the trained scale, of the scorer of the role `pickscore`. Only images of one prompt can be compared."
        ),
        needs="A scorer of texts for the role `pickscore`.",
        columns=(
            Column("pickscore_logit", "PickScore", bounds=(None, None), better="higher", against="prompt"),
            prompt_truncated("pickscore_prompt_truncated"),
        ),
        questions=(
            Question(
                "pickscore_logit", "pickscore", TEXT_LOGIT, "prompt", truncated="pickscore_prompt_truncated"
            ),
        ),
    )
)
