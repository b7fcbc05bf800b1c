"""`refold completion`: what a shell needs to complete commands, options, and the names that an app has."""

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    r"""Print the script by which a SHELL completes commands, options, and names of an app that stands before.

    \b
      refold completion bash > ~/.local/share/bash-completion/completions/refold
      refold completion zsh > ~/.zfunc/_refold
      refold completion fish > ~/.config/fish/completions/refold.fish
    """
    found = get_completion_class(shell)
    assert found is not None
    main = click.get_current_context().find_root().command
    click.echo(found(main, {}, "refold", "_REFOLD_COMPLETE").source())
