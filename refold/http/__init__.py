"""An app over HTTP: commands, states, views and the log, for browsers and for programs in other languages.

from refold.http import Access, Api
api = Api(app, Access(Keys("keys.json")))     # an ASGI app: mount it, or let `refold serve` run it
"""

from importlib.util import find_spec

from refold.errors import WiringError

if any(find_spec(name) is None for name in ("starlette", "uvicorn", "prometheus_client")):
    raise WiringError("an app over HTTP needs Starlette, uvicorn and prometheus-client: pip install refold[http]")

from refold.http.access import Access, Principal, Role
from refold.http.api import Api
from refold.http.call import Limits
from refold.http.tokens import Jwt, Keys

__all__ = ["Access", "Api", "Jwt", "Keys", "Limits", "Principal", "Role"]
