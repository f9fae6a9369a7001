"""What an import loads: the parts of the dependency direction that show in a running program or inside a function."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = [
    "alembic",
    "boto3",
    "botocore",
    "bson",
    "celery",
    "kombu",
    "psycopg",
    "pymongo",
    "pymysql",
    "redis",
    "sqlalchemy",
    "sqlite3",
]
HEAVY += ["cryptography", "msgpack", "pandas", "polars", "pyarrow", "zstandard"]


def loaded_by(statement: str) -> list[str]:
    code = f"{statement}\nimport sys\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize(
    "statement",
    [
        "import flowstore",
        "from flowstore import FlowStore, DataStorage",
        "import flowstore.storages",
        "import flowstore.cli",
        *(
            f"from flowstore.storages import {name}"
            for name in ("FileStorage", "MemoryStorage", "MongoStorage", "RedisStorage", "RoutingStorage", "S3Storage")
        ),
        "from flowstore.storages import MongoStorage; MongoStorage('db', 'collection')",
        "from flowstore.storages import RedisStorage; RedisStorage()",
        "from flowstore.storages import S3Storage; S3Storage('bucket')",
    ],
)
def test_no_celery_and_no_driver_is_loaded(statement: str) -> None:
    assert loaded_by(statement) == []


def test_a_loaded_driver_would_be_noticed() -> None:
    assert loaded_by("import flowstore, sqlalchemy") == ["sqlalchemy"]


def imports_by_function(source: str, module: str) -> set[str]:
    """Return the innermost functions of a source text that import a module; an empty name stands for the top level."""
    found: set[str] = set()

    def visit(node: ast.AST, function: str) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = node.name
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        if any(name == module or name.startswith(module + ".") for name in names):
            found.add(function)
        for child in ast.iter_child_nodes(node):
            visit(child, function)

    visit(ast.parse(source), "")
    return found


def test_the_one_door_up_to_celery_is_in_attach_detach_and_start() -> None:
    spec = importlib.util.find_spec("flowstore.store.store")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).read_text(encoding="utf-8")
    assert imports_by_function(source, "flowstore.celery") == {"attach", "detach", "start"}


def test_another_door_would_be_noticed() -> None:
    source = "from flowstore import celery\nclass A:\n    def get(self):\n        import flowstore.celery.start\n"
    assert imports_by_function(source, "flowstore.celery") == {"", "get"}
