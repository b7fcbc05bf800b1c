"""The contract of a store as tests: a backend joins by saying how it is opened.

    from functools import partial
    from refold.testing import StoreContract, StoreFixture

    class TestMyStore(StoreContract):
        def fixture(self, tmp_path):
            return StoreFixture(partial(MyStore.open, tmp_path / "log"), reopens=True)

pytest finds the rules in the subclass; no plugin is needed. A rule that needs a capability which the fixture does
not declare is skipped and says which: see `StoreFixture`.
"""

from refold.testing.store.append_ids import AppendIdRules
from refold.testing.store.basics import AppendRules
from refold.testing.store.concurrency import ConcurrencyRules
from refold.testing.store.conditions import ConditionRules
from refold.testing.store.following import FollowRules
from refold.testing.store.handles import HandleRules
from refold.testing.store.history import HistoryRules
from refold.testing.store.limits import LimitRules
from refold.testing.store.model import ModelRules
from refold.testing.store.options import ReadRules
from refold.testing.store.processes import ProcessRules
from refold.testing.store.queries import QueryRules


class StoreContract(
    AppendRules,
    LimitRules,
    QueryRules,
    ReadRules,
    ConditionRules,
    AppendIdRules,
    FollowRules,
    HandleRules,
    ConcurrencyRules,
    HistoryRules,
    ProcessRules,
    ModelRules,
):
    """Every rule that a store must keep; subclass it and say in `fixture` how the store is opened."""
