"""The score `adherence`: whether a judge says that an image shows the prompt, and whether it shows a caption of the reference."""

from graftwork.models.scorer import YES
from graftwork.scores.registry import Column, Question, Score, register

_ROLE = "judge"

register(
    Score(
        name="adherence",
        meaning=(
            "P(yes) of a vision-language model that is asked whether the image shows the prompt. Asked about a caption of the "
            "reference (`reference_captions`) too: where that rises and the other falls, the reference's content has taken "
            "the place of the prompt's. A judge that is also the experiment's encoder favours its own features; take another."
        ),
        needs="A scorer for the role `judge` that answers yes or no. `content_override` needs `reference_captions`.",
        columns=(
            Column("adherence", "P(yes) for the prompt", bounds=(0, 1), better="higher", against="prompt"),
            Column(
                "content_override",
                "P(yes) for the caption of the reference",
                bounds=(0, 1),
                against="reference",
                text_alone="content_override_text_alone",
            ),
            Column(
                "content_override_text_alone",
                "P(yes) for the caption of the reference, of the text alone",
                bounds=(0, 1),
                against="reference",
                is_detail=True,
            ),
        ),
        questions=(
            Question("adherence", _ROLE, YES, "prompt"),
            Question("content_override", _ROLE, YES, "reference_caption"),
            Question("content_override_text_alone", _ROLE, YES, "reference_caption", of_baseline=True),
        ),
    )
)
