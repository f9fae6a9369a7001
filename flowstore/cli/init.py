"""``flowstore init``: write a configuration to start from."""

from __future__ import annotations

from pathlib import Path

import click

from flowstore.cli import output
from flowstore.cli.status import say

_TEMPLATE = """\
# yaml-language-server: $schema={schema}
# Where the results and errors of Celery tasks are stored. Check this file with: flowstore -c {name} check
version: 1

storages:
  - name: Results
    classname: SqlStorage
    configuration:
      # A SQLite file in the folder DATA_DIR, or in the workers' current folder if that is not set.
      connection_string: 'sqlite:///${{DATA_DIR:-.}}/flowstore.db'
      # FULL survives a power failure; NORMAL is faster but may lose the latest results then.
      synchronous: FULL
    # If a result can't be stored: retry, fail (the task), or log.
    on_store_error: retry
    # If the task already has a result: replace, keep, or error.
    on_conflict: replace

  # More storages can be added here; FileStorage writes one file per result:
  # - name: Files
  #   classname: FileStorage
  #   configuration: {{path: ./results}}

# Settings of single tasks, by their Celery names:
# tasks:
#   - name: shop.tasks.price
#     storage: Files
#   - name: shop.tasks.heartbeat
#     storage: null                # its results are not stored

# Settings of flows, for all their tasks:
# flows:
#   - name: checkout
#     storage: Files

global:
  # The storage of all other tasks.
  default_storage: Results
"""


@click.command()
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False), default=Path("flowstore.yaml"))
@click.option("--force", is_flag=True, help="Overwrite existing files.")
def init(path: Path, force: bool) -> None:
    """Write a configuration for SQLite to start from.

    The JSON Schema, which editors use for completion, is written next to it. The default for PATH is flowstore.yaml.
    """
    from flowstore.config.json_schema import json_schema
    from flowstore.copying.atomic import atomic_write

    schema = path.with_name(f"{path.stem}.schema.json")
    texts = {
        path: _TEMPLATE.format(schema=schema.name, name=path.name),
        schema: output.to_json(json_schema(), indent=2) + "\n",
    }
    existing = [str(file) for file in texts if file.exists()]
    if existing and not force:
        raise click.ClickException(
            f"{' and '.join(existing)} {'exists' if len(existing) == 1 else 'exist'}; pass --force to overwrite"
        )
    for file, content in texts.items():
        # Without --force a file that was created in the meantime is not overwritten either.
        if force:
            with atomic_write(str(file)) as stream:
                stream.write(content.encode())
        else:
            with file.open("xb") as stream:
                stream.write(content.encode())
        click.echo(str(file))
    say(f"next: flowstore -c {path} check, and in your Celery app: FlowStore({str(path)!r}, app=app)")
