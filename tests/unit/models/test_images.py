"""Reference images of every kind become RGB, and damaged files become errors that name them."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile

from graftwork.models.images import (
    FORMATS,
    UnreadableImage,
    image_size,
    load_reference_image,
    profile_warning,
    read_image,
)

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
    assert image_size(path) == upright.size
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
    with pytest.raises(ValueError, match=r"absent\.png does not exist"):
        load_reference_image(tmp_path / "absent.png")
    with pytest.raises(ValueError, match="is a folder; give the path of an image"):
        load_reference_image(tmp_path)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def srgb_with_red_and_blue_exchanged() -> bytes:
    """A profile whose red is sRGB's blue."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack_from(">I", profile, 128)[0]
    places = {bytes(profile[132 + 12 * n : 136 + 12 * n]): 132 + 12 * n for n in range(count)}
    red, blue = places[b"rXYZ"] + 4, places[b"bXYZ"] + 4
    profile[red : red + 8], profile[blue : blue + 8] = profile[blue : blue + 8], profile[red : red + 8]
    return bytes(profile)


def test_a_colour_profile_is_applied(tmp_path):
    for name in ("profile.png", "profile.tif", "profile.webp"):
        options = {"lossless": True} if name.endswith("webp") else {}
        path = save(
            tmp_path, solid("RGB", RED), name, icc_profile=srgb_with_red_and_blue_exchanged(), **options
        )
        assert np.abs(np.subtract(pixel(path), RED[::-1])).max() <= 1
        assert profile_warning(path) is None


def test_a_profile_and_transparency(tmp_path):
    path = save(tmp_path, solid("RGBA", (*RED, 255)), icc_profile=srgb_with_red_and_blue_exchanged())
    assert np.abs(np.subtract(pixel(path), RED[::-1])).max() <= 1
    path = save(tmp_path, solid("RGBA", (*RED, 0)), icc_profile=srgb_with_red_and_blue_exchanged())
    assert pixel(path) == (255, 255, 255)


def test_a_profile_of_another_space_or_none_at_all_is_a_warning(tmp_path):
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile, words in ((b"no profile", "cannot be used"), (own[:200], "cannot be used")):
        path = save(tmp_path, solid("RGB", RED), icc_profile=profile)
        assert pixel(path) == RED
        assert words in profile_warning(path)
    grey = save(tmp_path, solid("L", 90), "grey.png", icc_profile=own)
    assert pixel(grey) == (90, 90, 90)
    assert "one for RGB, but the pixels are L" in profile_warning(grey)


def test_no_other_program_is_started(tmp_path, monkeypatch):
    started = tmp_path / "started"
    script = tmp_path / "gs"
    script.write_text(f"#!/bin/sh\ntouch {started}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    picture = tmp_path / "eps.png"
    picture.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(
        ValueError, match="it is a PostScript file, whatever its name says; convert it to PNG"
    ):
        load_reference_image(picture)
    assert not started.exists()
    assert "EPS" not in FORMATS


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC image"),
        (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"<!DOCTYPE html><html></html>", "an HTML page"),
        (b"%PDF-1.7", "a PDF file"),
        (b"no image", "not an image of a known format"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
    ],
)
def test_other_files_are_named_as_what_they_are(tmp_path, content, words):
    (tmp_path / "picture.png").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        load_reference_image(tmp_path / "picture.png")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match="no regular file"):
        load_reference_image(tmp_path / "pipe.png")


def test_avif(tmp_path):
    assert np.abs(np.subtract(pixel(save(tmp_path, solid("RGB", RED), "picture.avif")), RED)).max() <= 6


def test_a_photograph_of_several_pictures(tmp_path):
    pictures = [solid("RGB", RED), solid("RGB", (0, 0, 0))]
    path = save(tmp_path, pictures[0], "picture.jpg", format="MPO", save_all=True, append_images=pictures[1:])
    assert np.abs(np.subtract(pixel(path), RED)).max() <= 6


def _whole_png() -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "PNG", icc_profile=srgb_with_red_and_blue_exchanged())
    return buffer.getvalue()


WHOLE = _whole_png()


def _with_checksums(data: bytes) -> bytes:
    """Mends the checksums of chunks, so that damage reaches what reads them."""
    parts, at = [data[:8]], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 8 + length]
        parts.append(data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body)))
        at += 12 + length
    return b"".join(parts)


@settings(max_examples=300, deadline=2000)
@given(
    st.lists(st.tuples(st.integers(8, len(WHOLE) - 1), st.integers(0, 255)), max_size=6),
    st.integers(0, len(WHOLE)),
    st.booleans(),
)
def test_damaged_files_are_read_or_refused(tmp_path_factory, changes, length, mended):
    data = bytearray(WHOLE)
    for place, byte in changes:
        data[place] = byte
    data = (_with_checksums(bytes(data)) if mended else bytes(data))[: max(length, 1)]
    path = tmp_path_factory.getbasetemp() / "fuzzed.png"
    path.write_bytes(data)
    try:
        image = read_image(Path(path))
    except UnreadableImage:
        return
    assert image.mode == "RGB"
    assert image.size == image_size(path)
    profile_warning(path)
