"""CSD, contrastive style descriptors: `CLIPVisionModel` in transformers and one matrix, cosines between two images.

Source: G. Somepalli et al., Measuring Style Similarity in Diffusion Models (2024). A folder has the vision model in
`save_pretrained` form, and the matrix under the name `style_projection` in the file style.safetensors; docs/scores.md says how to
make one from the published weights, which have other names.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from graftwork.models.config_files import ConfigFile
from graftwork.models.families import ScorerFacts, ScorerFamily
from graftwork.models.scorer import IMAGE_COSINE, EmbeddingScorer
from graftwork.models.scorers.clip import check_crop
from graftwork.models.weights import read_shapes

if TYPE_CHECKING:
    import torch
    from PIL import Image

STYLE_FILE, STYLE_WEIGHT = "style.safetensors", "style_projection"


class CsdScorer(EmbeddingScorer):
    """Runs `CLIPVisionModel`; the vector of an image is its pooled output times the matrix."""

    def __init__(self, model: Any, projection: "torch.Tensor", processor: Any) -> None:
        super().__init__()
        self.model, self.projection, self.processor = model, projection, processor

    @classmethod
    def load(cls, folder: Path, entry: Mapping[str, Any], hardware: Mapping[str, Any]) -> Self:
        """Loads model, matrix and the image processor that needs no torchvision; see `Scorer`."""
        from safetensors.torch import load_file
        from transformers import CLIPVisionConfig, CLIPVisionModel
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

        from graftwork.models.hardware import parse_dtype
        from graftwork.models.transformers_encoder import load_weights

        dtype = parse_dtype(hardware["dtype"])
        config = CLIPVisionConfig.from_pretrained(folder, local_files_only=True)
        model = load_weights(CLIPVisionModel, folder, config, dtype)
        projection = load_file(folder / STYLE_FILE)[STYLE_WEIGHT].to(hardware["device"], dtype)
        processor = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
        return cls(model.to(hardware["device"]), projection, processor)

    def embed_image(self, image: "Image.Image") -> "torch.Tensor":
        """Returns the style of an image, (width,)."""
        pixels = self.processor(images=[image], return_tensors="pt")["pixel_values"]
        pooled = self.model(pixel_values=pixels.to(self.model.device, self.model.dtype)).pooler_output[0]
        return pooled @ self.projection


def read_facts(folder: Path) -> ScorerFacts:
    """Reads the facts of a folder; refuses a matrix of another width, and a processor of another image size."""
    config = ConfigFile(folder / "config.json")
    check_crop(folder, config.whole("image_size", 224))
    width, shape = config.whole("hidden_size", 768), read_shapes(folder / STYLE_FILE).get(STYLE_WEIGHT, ())
    if len(shape) != 2 or shape[0] != width:
        raise ValueError(
            f"{folder / STYLE_FILE} must have {STYLE_WEIGHT!r} in the shape [{width}, any], of hidden_size in config.json; "
            f"it has {list(shape) or 'none'}"
        )
    return ScorerFacts("csd", shape[1], None)


def weight_shapes(folder: Path) -> Sequence[Mapping[str, tuple[int, ...]]]:
    """Returns weights that config.json asks for."""
    config = ConfigFile(folder / "config.json")
    width, patch = config.whole("hidden_size", 768), config.whole("patch_size", 32)
    return [{"embeddings.patch_embedding.weight": (width, 3, patch, patch)}]


FAMILY = ScorerFamily(
    name="csd",
    scorer="graftwork.models.scorers.csd:CsdScorer",
    model_type="clip_vision_model",
    quantities=(IMAGE_COSINE,),
    files=(STYLE_FILE, "preprocessor_config.json"),
    required=(STYLE_FILE, "preprocessor_config.json"),
    read_facts=read_facts,
    weight_shapes=weight_shapes,
)
