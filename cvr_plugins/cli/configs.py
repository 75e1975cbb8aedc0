"""`cvr-plugins configs`: the configuration files that come with the package."""

from __future__ import annotations

import shutil
from pathlib import Path

import click


def configs_root() -> Path:
    """Return the folder of the shipped configurations: in an installed package, or beside it in a checkout.

    Returns
    -------
    Path
        Folder of `DATASET.yaml`, the settings of a data set whatever the method, and `DATASET/NAME.yaml`, its grids.
    """
    package = Path(__file__).resolve().parent.parent
    shipped = package / "_configs"
    return shipped if shipped.is_dir() else package.parent / "recbole_configs"


def config_names() -> list[str]:
    """Return the shipped configurations.

    Returns
    -------
    list of str
        Paths below `configs_root()` without the suffix, sorted: `ml-100k-funnel`, `ml-100k-funnel/grid`.
    """
    root = configs_root()
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml"))


def find_config(name: str) -> Path:
    """Return the file that `-c` means.

    Parameters
    ----------
    name : str
        A file, or else a shipped configuration, with or without `.yaml`.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ConfigError
        If there is neither, with what to type instead: `-c DATASET -m METHOD` for `DATASET/METHOD`, else the nearest
        shipped name.
    """
    from cvr_plugins.config import ConfigError
    from cvr_plugins.nearest import did_you_mean, unknown

    path = Path(name)
    if path.is_file():
        return path
    names = config_names()
    stem = name.removesuffix(".yaml")
    if stem in names:
        return configs_root() / f"{stem}.yaml"
    dataset, _, model = stem.partition("/")
    known = _model(model) if dataset in names else None
    if known is not None:
        raise ConfigError(
            f"The package has one configuration for {dataset}, whatever the method: -c {dataset} -m {known} instead of "
            f"-c {name}."
        )
    of_dataset = [each for each in names if each.startswith(f"{dataset}/")]
    near = next((those for those in (of_dataset, names) if did_you_mean(stem, those)), [])
    said = f"There is no configuration file {name!r}, here or in the package."
    raise ConfigError(unknown(said, stem, near, "'cvr-plugins configs' lists those of the package."))


def _model(name: str) -> str | None:
    """Return how `-m` takes the method or model of RecBole called so, None if there is none."""
    from cvr_plugins.cli._frameworks import RECHUB, framework_of
    from cvr_plugins.plugins import RegistryError, registry

    try:
        return registry().find("method", name).key if framework_of({"model": name}) == RECHUB else name
    except RegistryError:
        return None


@click.command(short_help="List or copy out the shipped configurations.")
@click.option("--copy", "target", type=click.Path(path_type=Path), help="Copy them into this new folder.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a list.")
def configs(target: Path | None, as_json: bool) -> None:
    """List the configuration files of the package, or copy them out; 'run -c NAME -m METHOD' runs one."""
    from cvr_plugins.cli._output import echo_json
    from cvr_plugins.files import check_apart, whole_folder

    names = config_names()
    if target is not None:
        check_apart(target, [configs_root()])
        with whole_folder(target) as aside:
            shutil.copytree(configs_root(), aside, dirs_exist_ok=True)
        click.echo(f"Copied {len(names)} files to {target}")
    elif as_json:
        echo_json(names)
    else:
        click.echo("\n".join(names))
