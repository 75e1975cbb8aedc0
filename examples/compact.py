"""Export of a pruned model: its predictions from fewer parameters.

    python examples/compact.py RUN LOG OUT.pt2

RUN is the folder of a finished run of AdapSL or of another method on the architecture `masked`, LOG a CSV or Parquet
file with at least one real token of every feature among its first rows. OUT predicts without this package:
`torch.export.load(OUT).module()(x)` gives probabilities `[B, n_task]` of encoded features as its model takes them.
"""

from __future__ import annotations

import argparse
import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding
from torch.nn.utils import skip_init

from cvr_plugins.architectures.backbones import MLP, NCF, BatchNorm, read_logit
from cvr_plugins.architectures.masked import KINDS, MODELS, Masked
from cvr_plugins.architectures.partly_shared import PartlyShared, PartlySharedLinear, PartlySharedTable
from cvr_plugins.contracts import Inputs, Objective, Outputs
from cvr_plugins.data import RawLog
from cvr_plugins.files import check_apart, whole_file
from cvr_plugins.model import CVRModel
from cvr_plugins.rechub import TensorLoader
from cvr_plugins.rechub.trained import TrainedRun

TOLERANCE = 1e-6
"""How far the export's predictions may be from the model's."""

EXAMPLE_ROWS = 10_000
"""Rows of a log on which an export is compared with its model."""

PREDICTION, IMPUTATION = MODELS["prediction"], MODELS["imputation"]


@dataclass(frozen=True)
class Compaction:
    """What an export left out.

    before, after: parameters that the model and its export store, embeddings among them in embeddings_before and
    embeddings_after; active: model ("prediction", "imputation") -> kind ("embeddings", "linear") -> coordinates in use
    and all of them; shares: model -> part ("total", "shared", "private") -> share in use; largest_difference: between
    the predictions of the two on the example batch.
    """

    before: int
    after: int
    embeddings_before: int
    embeddings_after: int
    active: Mapping[str, Mapping[str, tuple[int, int]]]
    shares: Mapping[str, Mapping[str, float]]
    largest_difference: float


class CompactModel(nn.Module):
    """The exported model: predicts as the pruned one did, and is not meant to be trained.

    `predict(x)` gives task -> probability `[B]`, `forward(x)` the same as `[B, n_task]` in the order of `tasks`.
    """

    def __init__(
        self, encoder: nn.Module, networks: Mapping[str, CompactNetwork], objective: Objective, sampling: nn.Module
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.networks = nn.ModuleDict(dict(networks))
        self.objective = objective
        self.sampling = sampling
        self.tasks = tuple(objective.tasks)

    def predict(self, x: Inputs) -> dict[str, Tensor]:
        """Return task -> probability `[B]`."""
        embedded = self.encoder(x)
        logits = {head: network(embedded) for head, network in self.networks.items()}
        found: dict[str, Tensor] = self.sampling(self.objective.predict(Outputs(logits, embedded, {})))
        return found

    def forward(self, x: Inputs) -> Tensor:
        """Return probabilities `[B, n_task]`, columns in the order of `tasks`."""
        predictions = self.predict(x)
        return torch.stack([predictions[task] for task in self.tasks], dim=1)


class CompactNetwork(nn.Module):
    """One head's network on the export's input: picks its columns, and gives the logit `[B]`.

    columns: of the input; positions: where they stand among `width` inputs of the network, the others being 0; None if
    the network takes the columns alone.
    """

    columns: Tensor
    positions: Tensor | None

    def __init__(
        self, network: nn.Module, logit: nn.Linear, columns: Sequence[int], positions: Sequence[int] | None, width: int
    ) -> None:
        super().__init__()
        self.network, self.logit, self.width = network, logit, width
        self.register_buffer("columns", torch.tensor(columns, dtype=torch.int64))
        spread = None if positions is None else torch.tensor(positions, dtype=torch.int64)
        self.register_buffer("positions", spread)

    def forward(self, x: Tensor) -> Tensor:
        """Map the export's input to the logit `[B]`."""
        own = x.index_select(1, self.columns)
        if self.positions is not None:
            own = own.new_zeros(len(own), self.width).index_copy(1, self.positions, own)
        return read_logit(self.logit, self.network(own))


@torch.no_grad()
def compact(model: CVRModel, example: Inputs) -> tuple[CompactModel, Compaction]:
    """Export a model of the architecture `masked` for prediction.

    The imputation model is left out. Of the prediction model go the columns of an embedding table of which nothing is
    in use, and with the backbones `mlp` and `ncf` the inputs that they fed, every hidden unit that nothing reads, and
    every one that reads nothing, whose constant value moves into the bias of what read it; batch normalisation is
    folded into the layers. On other backbones layers keep their shapes. Zeros within what is kept stay zeros.

    Parameters
    ----------
    model : CVRModel
        Left as it is.
    example : Inputs
        A batch with at least one real token of every embedded feature, from which the place of every table in the
        encoder's output is found, and on which the export is compared with the model.

    Returns
    -------
    CompactModel
        The export, which owns its weights.
    Compaction
        What it left out.

    Raises
    ------
    ValueError
        For a model of another architecture, and for an example without a token of some feature.
    RuntimeError
        If the predictions differ by more than 1e-6.
    """
    architecture = model.architecture
    if not isinstance(architecture, Masked):
        raise ValueError(
            f"compact() exports models of the architecture 'masked'; got one of {type(architecture).__name__}."
        )
    was_training = model.training
    model.eval()
    try:
        expected = model(example)
        made = _export(model, architecture, _tables_of_fields(model, architecture, example))
        difference = (made(example) - expected).abs().max().item()
    finally:
        model.train(was_training)
    if not difference <= TOLERANCE:
        raise RuntimeError(f"The export's predictions differ from the model's by {difference:.3g}; report this.")
    return made, _report(model, architecture, made, difference)


def _export(model: CVRModel, architecture: Masked, table_of_field: Sequence[int]) -> CompactModel:
    heads = [head for head in architecture.heads if head != IMPUTATION]
    tables = [cast(PartlyShared, table) for table in architecture.tables]
    kept = [_columns_in_use(table) for table in tables]
    encoder = _export_encoder(model.encoder, architecture, heads, kept)
    columns: dict[str, list[int]] = {head: [] for head in heads}
    positions: dict[str, list[int]] = {head: [] for head in heads}
    start = place = 0
    for table, width in zip(table_of_field, architecture.layout.embedded, strict=True):
        for head in heads:
            used = kept[table] if head == PREDICTION else list(range(width))
            columns[head] += range(start, start + len(used))
            positions[head] += [place + column for column in used]
            start += len(used)
        place += width
    for head in heads:
        columns[head] += range(start, start + architecture.layout.dense)
        positions[head] += range(place, architecture.layout.width)
    networks = {head: _export_network(architecture, head, columns[head], positions[head]) for head in heads}
    # The objective is asked for its predictions alone; the network that it may refer to stays behind.
    objective = copy.deepcopy(model.objective, {id(architecture): None, id(model.encoder): None})
    return CompactModel(encoder, networks, objective, copy.deepcopy(model.sampling)).eval()


def _columns_in_use(table: PartlyShared) -> list[int]:
    own = table.of(PREDICTION)
    used = torch.cat([own.shared_mask.any(dim=0), own.private_mask.any(dim=0)])
    return [int(column) for column in used.nonzero().flatten()]


def _export_encoder(
    encoder: nn.Module, architecture: Masked, heads: Sequence[str], kept: Sequence[Sequence[int]]
) -> nn.Module:
    exported: nn.Module = copy.deepcopy(encoder, {id(architecture): None})
    originals = [module for module in encoder.modules() if isinstance(module, PartlySharedTable)]
    copies = [(n, m) for n, m in exported.named_modules(remove_duplicate=False) if isinstance(m, PartlySharedTable)]
    made: dict[nn.Module, nn.Embedding] = {}
    number = {id(module): i for i, module in enumerate(dict.fromkeys(module for _, module in copies))}
    for name, module in copies:
        if module not in made:
            index = number[id(module)]
            weight = originals[index].weight.split(originals[index].weight.shape[1] // len(architecture.heads), dim=1)
            by_head = dict(zip(architecture.heads, weight, strict=True))
            parts = [by_head[head][:, list(kept[index])] if head == PREDICTION else by_head[head] for head in heads]
            made[module] = _embedding(torch.cat(parts, dim=1), module.padding_idx)
        parent, _, attribute = name.rpartition(".")
        setattr(exported.get_submodule(parent), attribute, made[module])
    return exported


def _embedding(weight: Tensor, padding_idx: int | None) -> nn.Embedding:
    return nn.Embedding.from_pretrained(weight.detach().clone(), freeze=False, padding_idx=padding_idx)


def _export_network(
    architecture: Masked, head: str, columns: Sequence[int], positions: Sequence[int]
) -> CompactNetwork:
    network, logit = architecture.networks[head], cast(nn.Linear, architecture.logits[head])
    width = architecture.layout.width
    if head == PREDICTION and type(network) in (MLP, NCF):
        layers = _layers(cast(MLP, network))
        small, small_logit = _without_dead_units(layers, logit, list(positions))
        return CompactNetwork(small, small_logit, columns, None, width)
    copied = copy.deepcopy(network)
    originals = dict(network.named_modules())
    for name in [name for name, module in copied.named_modules() if isinstance(module, PartlySharedLinear)]:
        original = cast(PartlySharedLinear, originals[name])
        parent, _, attribute = name.rpartition(".")
        setattr(copied.get_submodule(parent), attribute, _linear(original.weight, original.bias))
    complete = list(positions) == list(range(width))
    return CompactNetwork(copied, copy.deepcopy(logit), columns, None if complete else positions, width)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    # Without initial weights, which would be drawn from the caller's generator.
    with warnings.catch_warnings():
        # About a layer of which nothing is left.
        warnings.simplefilter("ignore")
        layer = skip_init(nn.Linear, weight.shape[1], weight.shape[0], bias=bias is not None, dtype=weight.dtype)
    made = cast(nn.Linear, layer.to(weight.device))
    made.weight.copy_(weight)
    if bias is not None:
        made.bias.copy_(bias)
    return made


@dataclass
class _Layer:
    """A linear layer `[k, n]`, `[k]` in float64, batch normalisation folded in, and the activation after it."""

    weight: Tensor
    bias: Tensor
    activation: nn.Module


def _layers(network: MLP) -> list[_Layer]:
    found: list[_Layer] = []
    for module in network.layers:
        if isinstance(module, PartlySharedLinear):
            weight, bias = module.weight.double(), module.bias
            zeros = weight.new_zeros(len(weight))
            found.append(_Layer(weight, zeros if bias is None else bias.double(), nn.Identity()))
        elif isinstance(module, BatchNorm):
            mean, var = module.running_mean, module.running_var
            assert mean is not None
            assert var is not None
            scale = module.weight.double() / (var.double() + module.eps).sqrt()
            layer = found[-1]
            layer.bias = (layer.bias - mean.double()) * scale + module.bias.double()
            layer.weight = layer.weight * scale[:, None]
        elif not isinstance(module, nn.Dropout):
            found[-1].activation = copy.deepcopy(module).double()
    return found


def _without_dead_units(layers: list[_Layer], logit: nn.Linear, inputs: list[int]) -> tuple[nn.Sequential, nn.Linear]:
    """Remove unused inputs and dead units, folding constants; return the layers and the layer of the logit."""
    out_weight = logit.weight.double()
    out_bias = out_weight.new_zeros(1) if logit.bias is None else logit.bias.double()
    stack = [*layers, _Layer(out_weight, out_bias, nn.Identity())]
    stack[0].weight = stack[0].weight[:, inputs]
    for layer, reader in pairwise(stack):
        constant = (layer.weight == 0).all(dim=1)
        value = layer.activation(layer.bias)
        reader.bias = reader.bias + reader.weight[:, constant] @ value[constant]
        _keep_units(layer, reader, ~constant)
    for layer, reader in reversed([*pairwise(stack)]):
        _keep_units(layer, reader, (reader.weight != 0).any(dim=0))
    like = logit.weight
    modules: list[nn.Module] = []
    for layer in stack[:-1]:
        modules += [_linear(layer.weight.to(like), layer.bias.to(like)), layer.activation.to(like)]
    return nn.Sequential(*modules), _linear(stack[-1].weight.to(like), stack[-1].bias.to(like))


def _keep_units(layer: _Layer, reader: _Layer, kept: Tensor) -> None:
    layer.weight, layer.bias, reader.weight = layer.weight[kept], layer.bias[kept], reader.weight[:, kept]


def _tables_of_fields(model: CVRModel, architecture: Masked, example: Inputs) -> list[int]:
    """Return, for each embedded field of the layout, the number of the table it is looked up in."""
    private = [cast(PartlyShared, table).of(PREDICTION).private for table in architecture.tables]
    found = []
    # Zeros that each table adds to what it looks up tell by their gradients where that arrives.
    with torch.enable_grad():
        probes = [torch.zeros_like(table[:, :1], requires_grad=True) for table in private]
        tables = [module for module in model.encoder.modules() if isinstance(module, PartlySharedTable)]
        hooks = [t.register_forward_hook(_marking(probe)) for t, probe in zip(tables, probes, strict=True)]
        try:
            embedded = model.encoder(example)
        finally:
            for hook in hooks:
                hook.remove()
        start = 0
        for field, width in enumerate(architecture.layout.embedded):
            total = embedded[:, start : start + width * len(architecture.heads)].sum()
            gradients = torch.autograd.grad(total, probes, retain_graph=True, allow_unused=True)
            reached = [i for i, g in enumerate(gradients) if g is not None and bool(g.any())]
            if len(reached) != 1:
                name = architecture.layout.names[field] if architecture.layout.names else str(field)
                raise ValueError(
                    f"The example batch has no token of feature {name!r}, so that its table cannot be found; give a "
                    "batch with at least one token of every feature."
                )
            found += reached
            start += width * len(architecture.heads)
    return found


def _marking(probe: Tensor) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    def mark(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output + embedding(args[0], probe, padding_idx=cast(PartlySharedTable, module).padding_idx)

    return mark


def _report(model: CVRModel, architecture: Masked, made: CompactModel, difference: float) -> Compaction:
    before = [*architecture.tables.parameters(), *architecture.own_tables.parameters()]
    after = [p for module in made.encoder.modules() if isinstance(module, nn.Embedding) for p in module.parameters()]
    active = {name: {kind: _counts(architecture, name, kind) for kind in KINDS} for name in MODELS}
    return Compaction(
        before=sum(p.numel() for p in model.parameters()),
        after=sum(p.numel() for p in made.parameters()),
        embeddings_before=sum(p.numel() for p in before),
        embeddings_after=sum(p.numel() for p in after),
        active=active,
        shares={name: architecture.active(name) for name in MODELS},
        largest_difference=difference,
    )


def _counts(architecture: Masked, model: str, kind: str) -> tuple[int, int]:
    masks = [each.mask for each in architecture.coordinates(model, (kind,))]
    return sum(int(mask.sum()) for mask in masks), sum(mask.numel() for mask in masks)


def compact_run(run: str | Path, log: str | Path, out: str | Path) -> Compaction:
    """Export the model of a run folder to a file that predicts without this package, for batches of any size.

    Parameters
    ----------
    run : str or Path
        The run folder.
    log : str or Path
        CSV or Parquet with the run's features; its first rows are the example that `compact` takes.
    out : str or Path
        A `.pt2` file, which `torch.export.load` reads.

    Returns
    -------
    Compaction
        What the export left out.
    """
    check_apart(Path(out), [log, *Path(run).glob("*")])
    trained = TrainedRun.load(run)
    raw = RawLog.open(log, trained.schema.features, encoding=trained.config["encoding"])
    _, features = next(raw.batches(EXAMPLE_ROWS, rows=False))
    loader = TensorLoader.from_encoded(trained.vocabulary.transform(features), {}, batch_size=EXAMPLE_ROWS)
    example, _ = next(loader.in_order())
    made, found = compact(trained.model, example)
    rows = torch.export.Dim("rows", min=1)
    program = torch.export.export(made, (example,), dynamic_shapes=({name: {0: rows} for name in example},))
    with whole_file(Path(out)) as aside:
        torch.export.save(program, aside)
    return found


def main() -> None:
    """Export what the command line names, and say what that left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("run", "log", "out"):
        parser.add_argument(name)
    given = parser.parse_args()
    found = compact_run(given.run, given.log, given.out)
    print(
        f"{found.before:,} parameters, {found.after:,} in the export (embeddings {found.embeddings_before:,}, "
        f"{found.embeddings_after:,}); predictions differ by {found.largest_difference:.1e} at most: {given.out}"
    )


if __name__ == "__main__":
    main()
