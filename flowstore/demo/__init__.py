"""A flow over real files with a real Celery worker, without any server; ``flowstore demo`` runs it."""
