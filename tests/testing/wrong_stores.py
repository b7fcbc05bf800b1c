"""All wrong stores: each has one fault, and says which rule is there to find it."""

from tests.testing import (
    wrong_append_ids,
    wrong_appends,
    wrong_conditions,
    wrong_handles,
    wrong_queries,
    wrong_races,
    wrong_reads,
)
from tests.testing.bending import WRONG, Wrong

MODULES = (
    wrong_append_ids,
    wrong_appends,
    wrong_conditions,
    wrong_handles,
    wrong_queries,
    wrong_races,
    wrong_reads,
)
"""They list their stores in WRONG when they are imported."""

__all__ = ["MODULES", "WRONG", "Wrong"]
