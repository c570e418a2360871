"""Draws a scene of the miniature world: python -m workflow_scripts.draw_scene CAPTION FILE.png"""

import argparse
from pathlib import Path

from PIL import Image

from graftwork.scenes.captions import parse_caption
from graftwork.scenes.world import render_scene


def main(arguments: list[str] | None = None) -> None:
    """Draws the scene of a full caption, as the references of the demo were drawn."""
    parser = argparse.ArgumentParser(description="Draw a scene of the miniature world.")
    parser.add_argument(
        "caption", help='such as "a large red circle on the left of a striped blue background"'
    )
    parser.add_argument("file", type=Path, help="PNG to write")
    parser.add_argument(
        "--size", type=int, default=128, help="side in pixels, a divisor of 512 (default 128)"
    )
    options = parser.parse_args(arguments)
    try:
        picture = render_scene(parse_caption(options.caption), options.size)
    except ValueError as error:
        parser.error(str(error))
    Image.fromarray(picture).save(options.file)


if __name__ == "__main__":
    main()
