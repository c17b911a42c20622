"""Transfer: a pretrained extractor, recorded features, heads trained on them, fine-tuning, and the ladder of all."""
