"""The revisions of SqlStorage's tables, one module each, as Alembic reads them; ``flowstore schema upgrade`` runs them.

A revision is never changed once it was released. The version of the tables is in ``flowstore_meta``; MySQL and MariaDB
commit each change of a table by itself, so that a revision may have to go on there where it was interrupted.
"""
