"""`kernroll completion`: what a shell needs to complete commands and options."""

import click
from click.shell_completion import get_completion_class

from controller.cli.session import examples


@click.command(
    epilog=examples(
        """
source <(kernroll completion bash)
kernroll completion zsh > "${fpath[1]}/_kernroll"
kernroll completion fish > ~/.config/fish/completions/kernroll.fish
"""
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell."""
    kind = get_completion_class(shell)
    assert kind is not None, "click completes the shells that are offered"
    click.echo(kind(ctx.find_root().command, {}, "kernroll", "_KERNROLL_COMPLETE").source())
