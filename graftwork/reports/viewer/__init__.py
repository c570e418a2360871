"""The viewer: a static page that shows the images of an experiment on any two of its axes.

`thumbnails` makes small copies of images, once per image. `data` gathers everything that the page knows. `folder` writes the
page, its data and its images to one folder that can be moved, zipped and opened from a disk. `ratings` reads what people
exported from the page. The page itself is in `page/`: plain HTML, CSS and classic scripts without a build step.
"""
