"""An adapter with the six methods alone, right in every respect: a JSON file for each result."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from pathlib import Path
from typing import Any

from flowstore.storage import DataStorage, ExcInfo


class ResultStorage(DataStorage):
    """Keep each result in a file below a folder, and no errors."""

    not_found_errors = (FileNotFoundError,)

    def __init__(self, path: str) -> None:
        self.folder = Path(path)
        self.connected = False

    def connect(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.connected = True

    def disconnect(self) -> None:
        self.connected = False

    def is_connected(self) -> bool:
        return self.connected

    def retrieve(self, flow_name: str, task_name: str, task_id: str) -> Any:
        return json.loads(self.file(flow_name, task_name, task_id).read_text())

    def store(self, flow_name: str, task_name: str, task_id: str, result: Any) -> None:
        self.write(self.file(flow_name, task_name, task_id), result)

    def file(self, *names: str) -> Path:
        return self.folder / hashlib.sha256(json.dumps(names).encode()).hexdigest()

    def write(self, file: Path, value: Any) -> None:
        temporary = self.folder / uuid.uuid4().hex
        temporary.write_text(json.dumps(value))
        os.replace(temporary, file)


class PlainStorage(ResultStorage):
    """Keep errors too."""

    def store_error(self, node_args: Any, flow_name: str, task_name: str, task_id: str, exc_info: ExcInfo) -> None:
        self.write(self.file(flow_name, task_name, task_id, "error"), str(exc_info[1]))
