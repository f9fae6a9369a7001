"""Adapters of records that join the parts of a reference to an address, each ambiguously in another way."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from flowstore.record import Key, Record, Ref
from tests.testing.wire import WireStorage
from tests.testing.wire_server import dump_record, dump_ref, load_record, load_ref


class _Joined(WireStorage):
    """Keeps a record at the place that its joined parts name, and its reference beside it."""

    def _address(self, ref: Ref) -> str:
        raise NotImplementedError

    def _get(self, ref: Ref, payload: bool) -> Record | None:
        return self._loaded(self._call("get", dump_ref(self._moved(ref)), payload))

    def _get_many(self, refs: Sequence[Ref]) -> list[Record | None]:
        found = [self._get(ref, True) for ref in refs]
        return [one if one is not None and one.ref == ref else None for ref, one in zip(refs, found, strict=True)]

    def _dumped(self, record: Record) -> Any:
        headers = {**record.headers, "joined": json.dumps(dump_ref(record.ref))}
        return dump_record(dataclasses.replace(record, ref=self._moved(record.ref), headers=headers))

    def _loaded(self, told: Any) -> Record | None:
        found = load_record(told)
        if found is None:
            return None
        headers = dict(found.headers)
        ref = load_ref(json.loads(headers.pop("joined")))
        return dataclasses.replace(found, ref=ref, headers=headers)

    def _moved(self, ref: Ref) -> Ref:
        return Ref("joined", Key("", "", self._address(ref)))


def _parts(ref: Ref) -> tuple[str, ...]:
    return ref.kind, ref.key.flow_name, ref.key.task_name, ref.key.task_id, ref.name


class JoinedBySlash(_Joined):
    def _address(self, ref: Ref) -> str:
        return "/".join(_parts(ref))


class JoinedByNul(_Joined):
    def _address(self, ref: Ref) -> str:
        return "\0".join(_parts(ref))


class JoinedByDash(_Joined):
    def _address(self, ref: Ref) -> str:
        return "-".join(_parts(ref))


class JoinedByPipe(_Joined):
    def _address(self, ref: Ref) -> str:
        return "|".join(_parts(ref))


class JoinedByUnitSeparator(_Joined):
    def _address(self, ref: Ref) -> str:
        return "\x1f".join(_parts(ref))


class NameGluedToId(_Joined):
    def _address(self, ref: Ref) -> str:
        *others, task_id, name = _parts(ref)
        return json.dumps([*others, task_id + name])


class NameAfterDash(_Joined):
    def _address(self, ref: Ref) -> str:
        *others, task_id, name = _parts(ref)
        return json.dumps([*others, f"{task_id}-{name}" if name else task_id])


class KindGluedToFlow(_Joined):
    def _address(self, ref: Ref) -> str:
        kind, flow, *others = _parts(ref)
        return json.dumps([kind + flow, *others])


class KindDotId(_Joined):
    def _address(self, ref: Ref) -> str:
        kind, flow, task, task_id, name = _parts(ref)
        return json.dumps([f"{task_id}.{kind}", flow, task, name])
