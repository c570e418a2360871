"""The score `ratings`: what people said of images in the viewer."""
