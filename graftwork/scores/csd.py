"""The score `csd`: how near the style of an image is to that of the reference."""

from graftwork.models.scorer import IMAGE_COSINE
from graftwork.scores.registry import Column, Question, Score, register

register(
    Score(
        name="csd",
        meaning="Cosine between the styles of image and reference by the scorer of the role `style`, such as CSD.",
        needs="References, and a scorer of images for the role `style`.",
        columns=(
            Column(
                "style_reference",
                "likeness of style to the reference",
                bounds=(-1, 1),
                better="higher",
                against="reference",
                text_alone="style_reference_text_alone",
            ),
            Column(
                "style_reference_text_alone",
                "likeness of style of the text alone to the reference",
                bounds=(-1, 1),
                against="reference",
                is_detail=True,
            ),
        ),
        questions=(
            Question("style_reference", "style", IMAGE_COSINE, "reference"),
            Question("style_reference_text_alone", "style", IMAGE_COSINE, "reference", of_baseline=True),
        ),
    )
)
