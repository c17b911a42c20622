"""The options of a model's table."""

from dataclasses import dataclass

from ..options import ArchitectureOptions


@dataclass(frozen=True, kw_only=True)
class ModelOptions(ArchitectureOptions):
    """A model as it is looked at."""

    classes: int = 10
    """How many classes it tells apart."""
    image_size: int = 32
    """Side of its images in pixels."""

    def of_network(self) -> dict[str, object]:
        """Tell what the model's builder is given."""
        return {name: value for name, value in vars(self).items() if name not in ("classes", "image_size")}
