"""What all drawings and reports share: figures, sheets of images, the base page."""
