"""The log and its views as Parquet files that follow it, for questions about many events at once; asked in SQL."""

from refold.errors import WiringError

try:
    from refold.view.parquet.ask import Answer, Reader, TableInfo
    from refold.view.parquet.mirror import Mirror
except ModuleNotFoundError as error:
    raise WiringError(f"analytics need DuckDB and Polars ({error}): pip install refold[analytics]") from None

__all__ = ["Answer", "Mirror", "Reader", "TableInfo"]
