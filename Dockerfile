# One image for migrate, web, worker and flower; docker-compose.yml says which command each runs.
FROM python:3.13-slim-bookworm

ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MALLOC_ARENA_MAX=2 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    DJANGO_SETTINGS_MODULE=opspawn_site.settings \
    HOME=/tmp

RUN useradd --system --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin opspawn

WORKDIR /srv/opspawn
COPY requirements.txt ./
RUN pip install --requirement requirements.txt

# Owned by root: the process that serves the code cannot change it.
COPY manage.py ./
COPY llm/ llm/
COPY memory/ memory/
COPY agents/ agents/
COPY tasks/ tasks/
COPY opspawn_site/ opspawn_site/

USER opspawn
EXPOSE 8000 5555
CMD ["python", "-m", "uvicorn", "opspawn_site.asgi:application", "--host", "0.0.0.0", "--port", "8000", "--no-access-log", "--no-server-header"]
