"""The score `clip_text`: how an image compares with its prompt in one vector space."""

from graftwork.models.scorer import TEXT_COSINE
from graftwork.scores.registry import Column, Question, Score, prompt_truncated, register

register(
    Score(
        name="clip_text",
        meaning=("Cosine between image and prompt by the scorer of the role `clip`, which reads 77 tokens."),
        needs="A scorer of texts for the role `clip`.",
        columns=(
            Column(
                "clip_text_cosine",
                "cosine with the prompt, CLIP",
                bounds=(-1, 1),
                better="higher",
                against="prompt",
            ),
            prompt_truncated("clip_text_prompt_truncated"),
        ),
        questions=(
            Question(
                "clip_text_cosine", "clip", TEXT_COSINE, "prompt", truncated="clip_text_prompt_truncated"
            ),
        ),
    )
)
