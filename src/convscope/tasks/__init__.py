"""What is asked of an image: one class, several labels, a number, or a class for each pixel."""
