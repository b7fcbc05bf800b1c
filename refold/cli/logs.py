"""How programs that go on for long say what they do: to stderr, for people or for other programs."""

import click

LOG_FORMAT = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    envvar="REFOLD_LOG_FORMAT",
    help="json: one object a line.",
)
LOG_LEVEL = click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="warning",
    show_default=True,
    envvar="REFOLD_LOG_LEVEL",
    help="What is logged, from this on, to stderr.",
)
