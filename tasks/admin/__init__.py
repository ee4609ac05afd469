"""Tasks, their steps and the keys of those who submit them, in the admin."""
from tasks.admin import api_keys, steps, tasks

__all__ = ["api_keys", "steps", "tasks"]
