"""The miniature world: rendered scenes with full ground truth, captions for them, and a reader that decodes them."""
