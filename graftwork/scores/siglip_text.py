"""The score `siglip_text`: how an image compares with its prompt in one vector space."""

from graftwork.models.scorer import TEXT_COSINE
from graftwork.scores.registry import Column, Question, Score, prompt_truncated, register

register(
    Score(
        name="siglip_text",
        meaning=(
            "Cosine between image and prompt by the scorer of the role `semantic`, which reads 64 tokens if it is SigLIP2."
        ),
        needs="A scorer of texts for the role `semantic`.",
        columns=(
            Column(
                "siglip_text_cosine",
                "cosine with the prompt, SigLIP",
                bounds=(-1, 1),
                better="higher",
                against="prompt",
            ),
            prompt_truncated("siglip_text_prompt_truncated"),
        ),
        questions=(
            Question(
                "siglip_text_cosine",
                "semantic",
                TEXT_COSINE,
                "prompt",
                truncated="siglip_text_prompt_truncated",
            ),
        ),
    )
)
