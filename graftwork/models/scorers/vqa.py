"""A judge that answers whether an image shows a text: `Qwen3VLForConditionalGeneration` in transformers, P(yes) in one forward pass.

The question and the sum over spellings are those of Z. Lin et al., Evaluating Text-to-Visual Generation with Image-to-Text
Generation (VQAScore, 2024).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from graftwork.models.config_files import ConfigFile, read_json
from graftwork.models.description import added_tokens, language_model_shapes, read_chat_template
from graftwork.models.families import ScorerFacts, ScorerFamily
from graftwork.models.scorer import YES, Looked, Measured, Scorer, finite_value

if TYPE_CHECKING:
    import torch

QUESTION = 'Does this figure show "{text}"? Please answer yes or no.'
# Spellings of the answers, yes and no; a pair counts where both are one token.
ANSWERS = (("Yes", "No"), ("yes", "no"), (" Yes", " No"))


class VqaScorer(Scorer):
    """Runs `Qwen3VLForConditionalGeneration`."""

    def __init__(self, model: Any, tokenizer: Any, processor: Any) -> None:
        self.model, self.tokenizer, self.processor = model, tokenizer, processor
        self._yes, self._no = answer_tokens(tokenizer)
        self._image_token = tokenizer.convert_ids_to_tokens(model.config.image_token_id)

    @classmethod
    def load(cls, folder: Path, entry: Mapping[str, Any], hardware: Mapping[str, Any]) -> Self:
        """Loads model, tokenizer and the image processor that needs no torchvision; see `Scorer`."""
        from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        from graftwork.models.hardware import parse_dtype
        from graftwork.models.transformers_encoder import load_tokenizer, load_weights

        config = Qwen3VLConfig.from_pretrained(folder, local_files_only=True)
        model = load_weights(Qwen3VLForConditionalGeneration, folder, config, parse_dtype(hardware["dtype"]))
        processor = Qwen2VLImageProcessorPil.from_pretrained(folder, local_files_only=True)
        return cls(model.to(hardware["device"]), load_tokenizer(folder), processor)

    def measure(
        self, quantity: str, image: Looked, text: str | None = None, other: Looked | None = None
    ) -> Measured:
        """Returns P(yes) against P(no), 0 to 1, after the question about a text; see `Scorer`.

        Raises:
            ValueError: where the text contains the token that stands for an image.
        """
        import torch

        if text is None:
            raise ValueError("a question needs a text")
        logits = self.answer_logits(image, text).float()
        answers = torch.stack([logits[self._yes].sum(), logits[self._no].sum()])
        return Measured(finite_value(answers.softmax(0)[0]))

    def answer_logits(self, image: Looked, text: str) -> "torch.Tensor":
        """Returns the logits of the first token of the answer: (vocabulary,)."""
        import torch

        if self._image_token in text:
            raise ValueError(f"the text contains {self._image_token!r}, which stands for an image")
        seen = self.processor(images=[image.image], return_tensors="pt")
        grid = seen["image_grid_thw"]
        tokens = int(grid.prod()) // self.model.config.vision_config.spatial_merge_size**2
        content = [{"type": "image"}, {"type": "text", "text": QUESTION.format(text=text)}]
        chat = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        ).replace(self._image_token, self._image_token * tokens, 1)
        ids = torch.tensor([self.tokenizer(chat)["input_ids"]])
        device = self.model.device
        with torch.no_grad():
            output = self.model(
                input_ids=ids.to(device),
                attention_mask=torch.ones_like(ids).to(device),
                mm_token_type_ids=(ids == self.model.config.image_token_id).int().to(device),
                pixel_values=seen["pixel_values"].to(device, self.model.dtype),
                image_grid_thw=grid.to(device),
                use_cache=False,
                logits_to_keep=1,
            )
        return output.logits[0, -1]


def answer_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Returns the tokens of yes and those of no, in the spellings that the tokenizer has as single tokens.

    Raises:
        ValueError: where it has no pair of them.
    """
    pairs = [[tokenizer(word, add_special_tokens=False)["input_ids"] for word in pair] for pair in ANSWERS]
    found = [(yes[0], no[0]) for yes, no in pairs if len(yes) == len(no) == 1]
    if not found:
        raise ValueError("the judge's tokenizer spells yes and no in several tokens; use another scorer")
    return [yes for yes, _ in found], [no for _, no in found]


def read_facts(folder: Path) -> ScorerFacts:
    """Reads the facts of a checkpoint; refuses one without a chat template, or that has no token for an answer."""
    config = ConfigFile(folder / "config.json")
    if read_chat_template(folder) is None:
        raise ValueError(f"{folder} has no chat template, which a judge needs")
    vocabulary = read_json(folder / "tokenizer.json").get("model", {}).get("vocab", {})
    # As byte-level tokenizers write a space before a word.
    known = {*vocabulary, *added_tokens(folder).values()}
    if not any(all(word.replace(" ", "\u0120") in known for word in pair) for pair in ANSWERS):
        raise ValueError(
            f"{folder / 'tokenizer.json'} has no pair of {', '.join(f'{yes!r} and {no!r}' for yes, no in ANSWERS)} as single "
            "tokens, which a judge answers with"
        )
    return ScorerFacts("vqa", config.section("text_config").whole("hidden_size"), None)


def weight_shapes(folder: Path) -> Sequence[Mapping[str, tuple[int, ...]]]:
    """Returns the weights of the language model that config.json asks for."""
    return [language_model_shapes(ConfigFile(folder / "config.json").section("text_config"))]


FAMILY = ScorerFamily(
    name="vqa",
    scorer="graftwork.models.scorers.vqa:VqaScorer",
    model_type="qwen3_vl",
    quantities=(YES,),
    files=(
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
        "merges.txt",
        "chat_template.jinja",
        "chat_template.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "preprocessor_config.json",
    ),
    required=("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"),
    read_facts=read_facts,
    weight_shapes=weight_shapes,
)
