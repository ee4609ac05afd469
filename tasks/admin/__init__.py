"""Tasks, their steps, the workers and the keys of those who submit them, in the admin."""
from tasks.admin import api_keys, spending, steps, tasks, workers

__all__ = ["api_keys", "spending", "steps", "tasks", "workers"]
