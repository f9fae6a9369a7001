"""``flowstore init``: a configuration to start from."""

from __future__ import annotations

from pathlib import Path

import click

from flowstore.cli import output
from flowstore.cli.outcome import say

_TEMPLATE = """\
# yaml-language-server: $schema={schema}
# Where the results and errors of Celery tasks are kept. Check this file with: flowstore -c {name} check
version: 1

storages:
  - name: Results
    classname: SqlStorage
    configuration:
      # A SQLite file, in the folder that DATA_DIR names, else in the one that workers are started in.
      connection_string: 'sqlite:///${{DATA_DIR:-.}}/flowstore.db'
      # FULL survives a loss of power; NORMAL is faster and may lose the last results then.
      synchronous: FULL
    # What to do when a result can't be stored: retry, fail (the task), or log.
    on_store_error: retry
    # What to do when a task has a result already: replace, keep, or error.
    on_conflict: replace

  # Further storages are added alike; FileStorage keeps each result in a file of its own:
  # - name: Files
  #   classname: FileStorage
  #   configuration: {{path: ./results}}

# Tasks that differ from the rest, by the names that Celery knows them by:
# tasks:
#   - name: shop.tasks.price
#     storage: Files
#   - name: shop.tasks.heartbeat
#     storage: null                # its results are not kept

# Flows whose tasks have another storage than the default:
# flows:
#   - name: checkout
#     storage: Files

global:
  # The storage of every task that is named nowhere above.
  default_storage: Results
"""


@click.command()
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False), default=Path("flowstore.yaml"))
@click.option("--force", is_flag=True, help="Overwrite files that exist.")
def init(path: Path, force: bool) -> None:
    """Write a commented configuration for SQLite to PATH, and the JSON Schema for editors beside it."""
    from flowstore.config.loading import json_schema
    from flowstore.copying.newfile import appearing

    schema = path.with_name(f"{path.stem}.schema.json")
    texts = {
        path: _TEMPLATE.format(schema=schema.name, name=path.name),
        schema: output.to_json(json_schema(), indent=2) + "\n",
    }
    existing = [str(file) for file in texts if file.exists()]
    if existing and not force:
        raise click.ClickException(f"{' and '.join(existing)} exists already; --force overwrites it")
    for file, content in texts.items():
        # Created here unless overwriting was asked for: what appeared in between is kept too.
        if force:
            with appearing(str(file)) as stream:
                stream.write(content.encode())
        else:
            with file.open("xb") as stream:
                stream.write(content.encode())
        click.echo(str(file))
    say(f"next: flowstore -c {path} check, and in your Celery app: FlowStore({str(path)!r}, app=app)")
