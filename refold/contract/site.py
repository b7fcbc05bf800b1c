"""Writes what there is to say of a contract into a folder: the page, the diagram, AsyncAPI and JSON Schemas."""

from pathlib import Path

import msgspec

from refold.contract.asyncapi import asyncapi
from refold.contract.describe import Contract
from refold.contract.diagram import diagram
from refold.contract.documents import schema_documents
from refold.contract.graph import graph_of
from refold.contract.page import page


def files_of(contract: Contract, base: str = "") -> dict[str, bytes]:
    """Return the files by their paths; `base` is as for `schema_documents`."""
    files = {
        "index.html": page(contract).encode(),
        "diagram.svg": f"{diagram(graph_of(contract), contract.app, alone=True)}\n".encode(),
        "asyncapi.json": _json(asyncapi(contract)),
    }
    return files | {f"schemas/{path}": _json(schema) for path, schema in schema_documents(contract, base)}


def write_site(contract: Contract, folder: Path, base: str = "") -> int:
    """Write the files, in place of those that are there, and return how many."""
    files = files_of(contract, base)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return len(files)


def _json(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
