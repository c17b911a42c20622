"""An image from its file to a tensor: decoding, preprocessing, augmentation, mixing."""
