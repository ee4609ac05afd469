"""A Celery application whose broker refuses every connection."""
from celery import Celery

app = Celery("dead", broker="redis://127.0.0.1:1/0", set_as_current=False)
