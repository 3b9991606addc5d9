"""Methods that learn a new task from a trained network: one file and one row of ``_registry.py`` each."""
