"""What storing and retrieving costs: each adapter next to its raw driver and to Celery's own result backend."""
