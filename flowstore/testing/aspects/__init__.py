"""The tests of the kit, a module for each aspect of an adapter."""
