"""The folder doctor: what is broken, doubled, mislabelled or not what it seems, before a dataset is trained on."""
