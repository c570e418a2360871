"""The score `reference`: cosines of an image to the reference and to the baseline, by two models that see differently."""

from graftwork.models.scorer import IMAGE_COSINE
from graftwork.scores.registry import Column, Question, Score, register

_LABELS = {"semantic": "what is shown", "structural": "how it is arranged"}
_BOUNDS = (-1, 1)


def _columns(role: str) -> list[Column]:
    what = _LABELS[role]
    alone = f"{role}_reference_text_alone"
    return [
        Column(
            f"{role}_reference",
            f"likeness to the reference, {what}",
            bounds=_BOUNDS,
            better="higher",
            against="reference",
            text_alone=alone,
        ),
        Column(
            alone,
            f"likeness of the text alone to the reference, {what}",
            bounds=_BOUNDS,
            against="reference",
            is_detail=True,
        ),
        Column(f"{role}_baseline", f"likeness to the baseline, {what}", bounds=_BOUNDS, against="baseline"),
    ]


def _questions(role: str) -> list[Question]:
    return [
        Question(f"{role}_reference", role, IMAGE_COSINE, "reference"),
        Question(f"{role}_reference_text_alone", role, IMAGE_COSINE, "reference", of_baseline=True),
        Question(f"{role}_baseline", role, IMAGE_COSINE, "baseline"),
    ]


register(
    Score(
        name="reference",
        meaning=(
            "Cosine between the image and the reference, and between the image and its baseline: by a model trained on texts "
            "and images (role `semantic`, such as SigLIP2), and by one trained on images alone (role `structural`, such as "
            "DINOv2)."
        ),
        needs="References, and scorers of images for the roles `semantic` and `structural`.",
        columns=tuple(column for role in _LABELS for column in _columns(role)),
        questions=tuple(question for role in _LABELS for question in _questions(role)),
    )
)
