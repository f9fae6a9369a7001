"""The command line: the ``flowstore`` script, and ``celery -A app flowstore``.

Celery loads this package with every command of its own, each start of a worker included. So its modules import nothing
but click at the top; what a command needs, it imports when it is run.
"""

from __future__ import annotations

from flowstore.cli import check, demo, errors, init, ls, show, tree
from flowstore.cli.root import flowstore

__all__ = ["flowstore", "main"]

for _command in (check.check, init.init, demo.demo, ls.ls, show.show, show.cat, errors.errors, tree.tree):
    flowstore.add_command(_command)

main = flowstore
