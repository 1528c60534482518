"""`pluggy-sync completion`: the script by which a shell completes the commands."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

PROGRAM: Final = "pluggy-sync"
VARIABLE: Final = "_PLUGGY_SYNC_COMPLETE"
"""click answers a shell that runs the program with this variable, which has the program's name."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes commands and options in a shell.

    In ~/.bashrc or ~/.zshrc: eval "$(pluggy-sync completion bash)", or zsh. In fish: pluggy-sync
    completion fish > ~/.config/fish/completions/pluggy-sync.fish
    """
    script = get_completion_class(shell)
    assert script is not None  # noqa: S101 - click has one for each of the three
    click.echo(script(context.find_root().command, {}, PROGRAM, VARIABLE).source())
