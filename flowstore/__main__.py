"""``python -m flowstore``: the command line."""

from flowstore.cli import flowstore

if __name__ == "__main__":
    flowstore(prog_name="python -m flowstore")
