"""DINOv2: `Dinov2Model` in transformers, cosines between the class tokens of two images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from graftwork.models.config_files import ConfigFile
from graftwork.models.families import ScorerFacts, ScorerFamily
from graftwork.models.scorer import IMAGE_COSINE, EmbeddingScorer

if TYPE_CHECKING:
    import torch
    from PIL import Image


class Dinov2Scorer(EmbeddingScorer):
    """Runs `Dinov2Model`. The vector of an image is its class token after the last norm."""

    def __init__(self, model: Any, processor: Any) -> None:
        super().__init__()
        self.model, self.processor = model, processor

    @classmethod
    def load(cls, folder: Path, entry: Mapping[str, Any], hardware: Mapping[str, Any]) -> Self:
        """Loads model and the image processor that needs no torchvision; see `Scorer`."""
        from transformers import Dinov2Config, Dinov2Model
        from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

        from graftwork.models.hardware import parse_dtype
        from graftwork.models.transformers_encoder import load_weights

        config = Dinov2Config.from_pretrained(folder, local_files_only=True)
        model = load_weights(Dinov2Model, folder, config, parse_dtype(hardware["dtype"]))
        processor = BitImageProcessorPil.from_pretrained(folder, local_files_only=True)
        return cls(model.to(hardware["device"]), processor)

    def embed_image(self, image: "Image.Image") -> "torch.Tensor":
        """Returns the class token, (width,)."""
        pixels = self.processor(images=[image], return_tensors="pt")["pixel_values"]
        return self.model(pixel_values=pixels.to(self.model.device, self.model.dtype)).last_hidden_state[0, 0]


def read_facts(folder: Path) -> ScorerFacts:
    """Reads the facts of a checkpoint; refuses a processor whose images have no whole number of patches."""
    config, processor = ConfigFile(folder / "config.json"), ConfigFile(folder / "preprocessor_config.json")
    patch = config.whole("patch_size", 14)
    crop = processor.section("crop_size").whole("height")
    if crop % patch:
        raise processor.wrong("crop_size", f"a multiple of patch_size {patch} of config.json")
    return ScorerFacts("dinov2", config.whole("hidden_size", 768), None)


def weight_shapes(folder: Path) -> Sequence[Mapping[str, tuple[int, ...]]]:
    """Returns weights that config.json asks for."""
    config = ConfigFile(folder / "config.json")
    width, patch = config.whole("hidden_size", 768), config.whole("patch_size", 14)
    return [
        {
            "embeddings.cls_token": (1, 1, width),
            "embeddings.patch_embeddings.projection.weight": (width, 3, patch, patch),
        }
    ]


FAMILY = ScorerFamily(
    name="dinov2",
    scorer="graftwork.models.scorers.dinov2:Dinov2Scorer",
    model_type="dinov2",
    quantities=(IMAGE_COSINE,),
    files=("preprocessor_config.json",),
    required=("preprocessor_config.json",),
    read_facts=read_facts,
    weight_shapes=weight_shapes,
)
