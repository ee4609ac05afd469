"""Tasks, their steps, the workers, providers' keys, money and the keys of those who submit tasks, in the admin."""
from tasks.admin import api_keys, providers, spending, steps, tasks, workers

__all__ = ["api_keys", "providers", "spending", "steps", "tasks", "workers"]
