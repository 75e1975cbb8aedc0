"""The command group: built-in commands by name, plugins' commands on demand, errors on one line."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from importlib import import_module
from typing import Any, NoReturn

import click

from cvr_plugins.cli._output import remark
from cvr_plugins.training.interrupts import handled
from cvr_plugins.wording import flat, one_line

_COMMANDS = {
    "run": "run",
    "grid": "grid",
    "report": "report",
    "predict": "score",
    "evaluate": "score",
    "methods": "tables",
    "models": "tables",
    "show": "tables",
    "keys": "tables",
    "plugins": "tables",
    "datasets": "tables",
    "check": "check",
    "configs": "configs",
    "export": "export",
    "weights": "weights",
    "reseal": "reseal",
    "new": "new",
}
"""Command -> module of this package that defines it."""

USAGE, FAILURE = 2, 1


class Group(click.Group):
    """Find a built-in command without loading any plugin, another one by asking the plugins."""

    _asked: Any = None

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the built-in commands, and those of plugins if they were loaded already."""
        return [*_COMMANDS, *sorted(set(super().list_commands(ctx)) - set(_COMMANDS))]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Return the command of that name, None if neither we nor a plugin has it."""
        if name in _COMMANDS:
            command: click.Command = getattr(import_module(f"cvr_plugins.cli.{_COMMANDS[name]}"), name)
            return command
        self.ask_plugins()
        return super().get_command(ctx, name)

    def ask_plugins(self) -> None:
        """Let the plugins of this process's registry add their commands, once."""
        from cvr_plugins.plugins import registry

        known = registry()
        if self._asked is not known:
            self._asked = known
            self.commands.clear()
            known.add_commands(self)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve as click does; an unknown command is answered with the nearest known one."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from cvr_plugins.nearest import unknown

            raise click.UsageError(unknown(error.message, args[0], self.list_commands(ctx), ""), ctx) from error


def version_option(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    """Print the version and leave."""
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"cvr-plugins {version('cvr-plugins')}")
        ctx.exit()


@click.group(
    cls=Group,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Plugins may add commands; 'cvr-plugins plugins' lists what each one brings.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error; may stand anywhere in the line.")
@click.option("--version", is_flag=True, callback=version_option, expose_value=False, is_eager=True, help="Show it.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Conversion-rate (CVR) prediction with torch-rechub and RecBole."""
    ctx.obj = {"debug": debug}
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 1 the work failed or was interrupted, 2 what was given is wrong."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # It was closed: its number would go to the next file that is opened, and what is printed into that.
            stream = open(os.devnull, mode)  # noqa: SIM115
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError:
        # Full, or nobody reads on ('... | head'); Python would say so once more when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; errors go to standard error on one line.

    SIGTERM and SIGHUP end it as Ctrl-C does.
    """
    # Anywhere in the line: who sees an error repeats the command with --debug at its end.
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            with handled():
                code: Any = cli.main(
                    args=["--debug", *arguments] if debug else arguments, prog_name="cvr-plugins", standalone_mode=False
                )
        except click.exceptions.Exit as leave:
            code = leave.exit_code
        except SystemExit as leave:
            # Of click, when nobody reads on, and of plugins' commands.
            code = leave.code if leave.code is None or isinstance(leave.code, int) else _fail(str(leave.code), FAILURE)
        except click.ClickException as error:
            code = _usage(error, debug)
        except (click.Abort, KeyboardInterrupt) as interrupt:
            ours = next((each for each in arguments if not each.startswith("-")), None) in _COMMANDS
            # click raises its own error in its place.
            left = str(interrupt.__cause__ or interrupt) or ("nothing is left half written." if ours else "")
            code = _fail(f"Interrupted; {left}" if left else "Interrupted.", FAILURE, debug)
        except BrokenPipeError:
            code = FAILURE
        except BaseException as error:  # noqa: BLE001 - whatever it is, people get one line and --debug the rest
            code = _fail(_one_line(error), _code(error), debug)
        return code if isinstance(code, int) else 0


def _usage(error: click.ClickException, debug: bool) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":
        # Of a plugin's group, since click 8.2: the message is the help.
        remark(error.format_message())
        return USAGE
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    where = f" Try '{ctx.command_path} --help'." if ctx is not None else ""
    return _fail(error.format_message() + where, USAGE, debug)


def _code(error: BaseException) -> int:
    # Every error about what the user gave is a ValueError of ours; everything else failed while working.
    ours = type(error).__module__.startswith("cvr_plugins.")
    return USAGE if ours and isinstance(error, ValueError) else FAILURE


def _one_line(error: BaseException) -> str:
    # Ours say what is wrong in words of their own.
    ours = type(error).__module__.startswith("cvr_plugins.")
    return flat(error) if ours else one_line(error)


def _fail(message: str, code: int, debug: bool = False) -> int:
    if debug:
        traceback.print_exc()
    remark(f"Error: {message}")
    return code


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    remark(f"Warning: {flat(message)}")
