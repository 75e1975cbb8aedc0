"""`cvr-plugins weights`: the weights of a run alone."""

from __future__ import annotations

from pathlib import Path

import click

from cvr_plugins.cli._output import remark, stands


@click.command(short_help="Write the weights of a run alone.")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--verify/--no-verify", default=True, help="Check the files' hashes first; done if not said.")
def weights(run: Path, out: Path, verify: bool) -> None:
    """Write the weights of RUN, a run folder or a checkpoint, to OUT.

    OUT is a state_dict: torch.load(OUT, weights_only=True) reads it, and load_state_dict of a model with the run's
    options takes it, of RecBole's own as well, whose load_data_and_model reads no checkpoint of ours.

    \b
    cvr-plugins weights runs/BPR weights.pt
    """
    import torch

    from cvr_plugins.files import check_new, whole_file
    from cvr_plugins.training.checkpoint import load_checkpoint
    from cvr_plugins.training.run_folder import RunFolder, RunFolderError

    check_new(out)
    found = sorted(run.glob("checkpoint.pt*")) if run.is_dir() else [run]
    if not found:
        raise RunFolderError(f"{run} holds no checkpoint; name a run folder or a checkpoint.")
    checkpoint = load_checkpoint(RunFolder.open(run, verify=verify).file(found[0].name) if run.is_dir() else found[0])
    with whole_file(out) as aside:
        torch.save(checkpoint["state_dict"], aside)
    with stands(f"{out} is written."):
        click.echo(f"{out}: {len(checkpoint['state_dict'])} tensors of {checkpoint['model']}")
    others = sorted(checkpoint.get("other_parameter") or {})
    if others:
        remark(f"Note: {', '.join(others)}, which the model keeps beside its weights, is not in it.")
