"""The optimisers and learning rate schedulers that a configuration may name; `cvr_plugins.training` makes them."""

from __future__ import annotations

LEARNERS = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD", "adagrad": "Adagrad", "rmsprop": "RMSprop"}
"""Value of the key `learner`, in RecBole's spelling -> class of `torch.optim`."""

SCHEDULERS = (
    "StepLR",
    "MultiStepLR",
    "ExponentialLR",
    "PolynomialLR",
    "LinearLR",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "OneCycleLR",
    "ReduceLROnPlateau",
)
"""Values of the key `scheduler`: those classes of `torch.optim.lr_scheduler` whose arguments can be written down."""
