"""The console: an app seen and operated in a browser. Its pages are made here; the API beneath says who may see what.

from refold.console import Console
console = Console(Api(app, Access(Keys("keys.json"))))     # an ASGI app: /console/, and the API
"""

from importlib.util import find_spec

from refold.errors import WiringError

if find_spec("jinja2") is None or find_spec("itsdangerous") is None:
    raise WiringError("the console needs Jinja2 and itsdangerous: pip install refold[http]")

from refold.console.console import Console

__all__ = ["Console"]
