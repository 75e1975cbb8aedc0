"""Commands of plugins: whole or not at all, and never in place of another."""

import click
import pytest
from click.testing import CliRunner

PLUGIN = """
import click
from cvr_plugins import hookimpl

@hookimpl
def cvr_register_commands(cli):
    {body}
"""

EXTRA = """@cli.command()
    def extra():
        click.echo("extra of {plugin}")
"""


@pytest.fixture
def cli():
    @click.group()
    def group():
        pass

    @group.command()
    def run():
        click.echo("our run")

    return group


def said(cli, *arguments):
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    return result.output.strip()


def test_a_plugin_s_command_is_added(distributions, info, cli):
    distributions.add("acme", PLUGIN.format(body=EXTRA.format(plugin="acme")))
    registry = distributions.load()
    registry.add_commands(cli)
    assert said(cli, "extra") == "extra of acme"
    assert said(cli, "run") == "our run"
    assert info(registry, "acme").contributed == {"command": ("extra",)}
    assert registry.failures == ()


@pytest.mark.parametrize("command", ["run", "Run"])
def test_a_command_of_ours_cannot_be_replaced(distributions, cli, command):
    body = f"cli.add_command(click.Command('{command}', callback=lambda: click.echo('their run')))"
    distributions.add("acme", PLUGIN.format(body=body))
    registry = distributions.load()
    registry.add_commands(cli)
    assert said(cli, "run") == "our run"
    assert said(cli, f"acme:{command}") == "their run"
    (failure,) = registry.failures
    assert failure.message == f"The command name '{command}' is a built-in's; ask for 'acme:{command}'."


def test_a_command_of_ours_cannot_be_removed(distributions, cli):
    distributions.add("acme", PLUGIN.format(body="cli.commands.clear()"))
    distributions.load().add_commands(cli)
    assert said(cli, "run") == "our run"


def test_a_command_of_a_lazy_group_cannot_be_replaced(distributions):
    class Lazy(click.Group):
        def list_commands(self, context):
            return sorted({"late", *super().list_commands(context)})

    cli = Lazy()
    distributions.add("acme", PLUGIN.format(body="cli.add_command(click.Command('late'))"))
    distributions.load().add_commands(cli)
    assert set(cli.commands) == {"acme:late"}


def test_two_plugins_with_one_command_keep_theirs_apart(distributions, cli):
    distributions.add("acme", PLUGIN.format(body=EXTRA.format(plugin="acme")))
    distributions.add("zeta", PLUGIN.format(body=EXTRA.format(plugin="zeta")))
    registry = distributions.load()
    registry.add_commands(cli)
    assert set(cli.commands) == {"run", "acme:extra", "zeta:extra"}
    assert said(cli, "zeta:extra") == "extra of zeta"
    assert [failure.stage for failure in registry.failures] == ["name", "name"]


@pytest.mark.parametrize(
    ("body", "stage", "message"),
    [
        (EXTRA + "\n    raise RuntimeError", "cvr_register_commands", "RuntimeError"),
        (EXTRA + "\n    raise SystemExit", "cvr_register_commands", "SystemExit"),
        (EXTRA + "\n    cli.commands['odd'] = 3", "validate", "'odd' must be a click command; got 3."),
        (EXTRA + "\n    cli.add_command(click.Command('a:b'))", "validate", "a name is letters, digits"),
    ],
)
def test_a_plugin_that_fails_adds_nothing(distributions, cli, body, stage, message):
    distributions.add("acme", PLUGIN.format(body=body.format(plugin="acme")))
    distributions.add("zeta", PLUGIN.format(body=EXTRA.format(plugin="zeta")))
    registry = distributions.load()
    registry.add_commands(cli)
    assert set(cli.commands) == {"run", "extra"}
    assert said(cli, "extra") == "extra of zeta"
    (failure,) = registry.failures
    assert (failure.plugin, failure.stage, failure.kind) == ("acme", stage, "command")
    assert message in failure.message


def test_adding_again_to_another_command_line_reports_nothing_twice(distributions, cli):
    distributions.add("acme", PLUGIN.format(body="raise RuntimeError('boom')"))
    registry = distributions.load()
    registry.add_commands(cli)
    registry.add_commands(click.Group())
    assert len(registry.failures) == len(distributions.messages) == 1
