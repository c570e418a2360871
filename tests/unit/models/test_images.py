"""Reference images of every kind become RGB, and damaged files become errors that name them."""

import numpy as np
import pytest
from PIL import Image, ImageFile

from graftwork.models.images import load_reference_image

RED = (200, 30, 40)


def solid(mode, colour, size=(6, 4)):
    return Image.new(mode, size, colour)


def save(tmp_path, image, name="picture.png", **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


def pixel(path, at=(1, 1)):
    image = load_reference_image(path)
    assert image.mode == "RGB"
    assert not image.info
    return image.getpixel(at)


def test_rgb_and_grey(tmp_path):
    assert pixel(save(tmp_path, solid("RGB", RED))) == RED
    assert pixel(save(tmp_path, solid("L", 90))) == (90, 90, 90)
    assert pixel(save(tmp_path, solid("1", 1))) == (255, 255, 255)


def test_palette_with_and_without_transparency(tmp_path):
    image = solid("RGB", RED).convert("P", palette=Image.Palette.ADAPTIVE)
    assert pixel(save(tmp_path, image)) == RED
    path = save(tmp_path, image, transparency=image.getpixel((0, 0)))
    assert pixel(path) == (255, 255, 255)


def test_alpha_is_composited_on_white(tmp_path):
    assert pixel(save(tmp_path, solid("RGBA", (0, 0, 0, 0)))) == (255, 255, 255)
    assert pixel(save(tmp_path, solid("RGBA", (*RED, 255)))) == RED
    assert pixel(save(tmp_path, solid("RGBA", (0, 0, 0, 51)))) == (204, 204, 204)
    assert pixel(save(tmp_path, solid("LA", (0, 51)))) == (204, 204, 204)
    assert pixel(save(tmp_path, solid("RGB", RED), transparency=RED)) == (255, 255, 255)


def test_cmyk(tmp_path):
    path = save(tmp_path, solid("CMYK", (0, 255, 255, 0)), "picture.tif")
    assert pixel(path) == (255, 0, 0)


@pytest.mark.parametrize("name", ["picture.png", "picture.tif"])
def test_16_bit_is_scaled_not_clipped(tmp_path, name):
    values = np.array([[0, 128, 257, 32768, 65280, 65535]], dtype=np.uint16)
    path = save(tmp_path, Image.fromarray(values), name)
    grey = np.asarray(load_reference_image(path))[0, :, 0]
    assert grey.tolist() == [0, 0, 1, 128, 254, 255]


def test_32_bit_integers_within_16_bit_are_scaled_and_others_refused(tmp_path):
    inside = save(tmp_path, Image.fromarray(np.array([[0, 65535]], dtype=np.int32)), "inside.tif")
    assert np.asarray(load_reference_image(inside))[0, :, 0].tolist() == [0, 255]
    outside = save(tmp_path, Image.fromarray(np.array([[0, 70000]], dtype=np.int32)), "outside.tif")
    with pytest.raises(ValueError, match=r"outside\.tif.*beyond 16 bit"):
        load_reference_image(outside)


def test_floating_point_is_refused(tmp_path):
    path = save(tmp_path, Image.fromarray(np.zeros((2, 2), dtype=np.float32)), "float.tif")
    with pytest.raises(ValueError, match=r"float\.tif.*floating-point"):
        load_reference_image(path)


def test_exif_rotation_is_applied(tmp_path):
    image = solid("RGB", (0, 0, 0), size=(40, 16))
    image.paste(RED, (0, 0, 8, 16))
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path, image, "picture.png", exif=exif)
    upright = load_reference_image(path)
    assert upright.size == (16, 40)
    assert upright.getpixel((8, 2)) == RED
    assert upright.getpixel((8, 30)) == (0, 0, 0)


def test_first_frame_of_an_animation(tmp_path):
    frames = [solid("RGB", RED), solid("RGB", (0, 0, 0))]
    path = save(tmp_path, frames[0], "picture.gif", save_all=True, append_images=frames[1:])
    assert pixel(path) == RED


def test_damaged_files_are_named(tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for name in ("cut.png", "cut.jpg", "cut.tif", "cut.webp"):
        whole = save(tmp_path, noise, name)
        whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        with pytest.raises(ValueError, match=name.replace(".", r"\.") + " cannot be read"):
            load_reference_image(whole)
    (tmp_path / "empty.png").touch()
    with pytest.raises(ValueError, match=r"empty\.png is empty"):
        load_reference_image(tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match=r"text\.png cannot be read"):
        load_reference_image(tmp_path / "text.png")
    for path in (tmp_path / "absent.png", tmp_path):
        with pytest.raises(ValueError, match="does not exist"):
            load_reference_image(path)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
