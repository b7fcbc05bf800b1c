"""The contract of kept rows as tests: a backend of `refold.view.api.Views` joins by saying how it is opened.

    from refold.testing import ViewContract

    class TestMyViews(ViewContract):
        @asynccontextmanager
        async def beside(self, tmp_path):
            log = await MyStore.open(tmp_path / "log")
            yield log, MyViews(log)

What is opened again with the same `tmp_path` is the same log and views, also while others are open. pytest finds the
rules in the subclass; no plugin is needed.
"""

from refold.testing.view.appends import AppendRules
from refold.testing.view.rows import RowRules
from refold.testing.view.searches import SearchRules
from refold.testing.view.writes import WriteRules


class ViewContract(RowRules, WriteRules, SearchRules, AppendRules):
    """Every rule that kept rows must keep; subclass it and say in `beside` how they are opened."""
