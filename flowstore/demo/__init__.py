"""The flow of ``flowstore demo``: real files, a real worker, no server."""
