"""The architectures of the papers. Inputs are images in [0, 1]; a normalisation belongs inside the model.

Each builder takes (num_classes, image_shape); `image_shape` is (channels, height, width). Parameter names are
those of the checkpoints of the papers' programs, so that these can be loaded.
"""

from fairbench.models.build import build_model

__all__ = ["build_model"]
