"""The command line: ``flowstore``, and ``celery -A app flowstore``.

Celery loads this package with each of its commands, even when a worker starts. So these modules import only click at
the top; a command imports the rest when it runs.
"""

from __future__ import annotations

from flowstore.cli import (
    check,
    conformance,
    copying,
    deleting,
    demo,
    errors,
    files,
    init,
    ls,
    schema,
    show,
    storages,
    tree,
)
from flowstore.cli.root import flowstore

__all__ = ["flowstore", "main"]

for _command in (
    check.check,
    conformance.conformance,
    init.init,
    demo.demo,
    ls.ls,
    show.show,
    show.cat,
    errors.errors,
    tree.tree,
    storages.storages,
    storages.ping,
    storages.stats,
    copying.copy,
    copying.verify,
    files.export_,
    files.import_,
    deleting.rm,
    deleting.cleanup,
    schema.schema,
):
    flowstore.add_command(_command)

main = flowstore
