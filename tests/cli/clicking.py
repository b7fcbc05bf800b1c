"""The app of `tests.runtime.clicks` for the command line, in two definitions."""

from refold import App, kept
from tests.runtime.clicks import BusyPages, Clicks, Doubled, clicks


def app(store: str) -> App:
    return clicks(store, kept(Clicks, history=True), BusyPages)


def doubled(store: str) -> App:
    return clicks(store, kept(Doubled, history=True), BusyPages)
