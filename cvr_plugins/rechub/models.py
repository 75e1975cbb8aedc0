"""Every registered method as a torch-rechub multi-task model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from cvr_plugins.assembly import HEAD_SUFFIX as HEAD_SUFFIX
from cvr_plugins.assembly import assemble
from cvr_plugins.contracts import Method
from cvr_plugins.encoder import Encoder
from cvr_plugins.method_classes import MethodClasses
from cvr_plugins.model import CVRModel
from cvr_plugins.rechub.features import Feature, fields_of, without_table


class RechubModel(CVRModel):
    """Base of the torch-rechub model classes; `method` is what a subclass is the class of.

    user_features, item_features: lists of torch-rechub features; their numbers and embedding sizes may differ, and
    one list may hold them all. architecture, backbone, weighting: registered names, None for the method's own.
    dense, dense_stats: see Encoder. `<head>_params` (such as `cvr_params={"dims": [64], "dropout": 0.2}`)
    replaces the backbone's options for one head. Further keywords are options of the objective, the architecture,
    the backbone or the weighting; `cvr-plugins show METHOD` lists them. `weighting_params` holds all options of the
    weighting, for where another part has an option of the same name.

    Raises OptionError (a ValueError) for options that no part takes and values that a part refuses, ValueError for
    features that Encoder refuses.
    """

    method: ClassVar[Method]
    plugin: ClassVar[str]

    def __init__(
        self,
        user_features: Sequence[Feature],
        item_features: Sequence[Feature] = (),
        *,
        architecture: str | None = None,
        backbone: str | None = None,
        weighting: str | None = None,
        dense: str = "raw",
        dense_stats: Mapping[str, tuple[float, float]] | None = None,
        **options: Any,
    ) -> None:
        assembly = assemble(
            self.method, architecture=architecture, backbone=backbone, weighting=weighting, options=options
        )
        features = [*user_features, *item_features]
        encoder = Encoder(fields_of(features), dense=dense, dense_stats=dense_stats)
        super().__init__(encoder, *assembly.build(encoder.layout))
        # torch-rechub's ONNX exporter finds a model's inputs in list attributes of these names.
        self.features = [without_table(feature) for feature in features]
        self.user_features = self.features[: len(user_features)]
        self.item_features = self.features[len(user_features) :]

    def __reduce_ex__(self, protocol: Any) -> Any:
        # By the method's qualified name: two plugins may each have a class of one name.
        if not CLASSES.is_latest(type(self)):
            return super().__reduce_ex__(protocol)
        return _blank, (f"{self.plugin}:{self.method.name}",), self.__dict__


def _blank(name: str) -> RechubModel:
    cls = model_class(name)
    return cls.__new__(cls)


CLASSES = MethodClasses(RechubModel, __package__)


def model_class(name: str) -> type[RechubModel]:
    """Return the torch-rechub model class of a registered method, the same class at each call.

    name: a method's name, in any case, or `plugin:Name`. Raises what the registry raises for unknown names.
    """
    return CLASSES.of(name)
