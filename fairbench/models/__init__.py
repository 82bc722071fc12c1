"""The papers' architectures. Inputs are images in [0, 1]; a normalisation belongs inside the model.

Each builder takes (num_classes, image_shape) and nothing else; `image_shape` is (channels, height, width).
Parameter names are those of the checkpoints that the papers' programs write, so foreign weights load.
"""

from fairbench.models.build import build_model

__all__ = ["build_model"]
