"""Django's PostgreSQL backend, with connections that are looked at before use only when they have been idle."""
