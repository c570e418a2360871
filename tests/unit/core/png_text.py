"""Text of PNG files, as Pillow reads it."""

import io

from PIL import Image


def read_text_chunks(data: bytes) -> dict[str, str]:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return dict(image.text)
