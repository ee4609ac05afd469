"""Every setting, read from the environment here and nowhere else; docs/reference/settings.md explains each."""
from __future__ import annotations

import base64
import os
import pathlib
import secrets
from urllib.parse import unquote, urlsplit

from llm.providers import canonical_model, known
from opspawn_site import VERSION
from opspawn_site.environment import Environment, SettingError, load_dotenv, wrong
from opspawn_site.navigation import UNFOLD  # noqa: F401 - django-unfold reads it here

BASE_DIR = pathlib.Path(__file__).resolve().parent.parent
load_dotenv(BASE_DIR / ".env")
env = Environment(os.environ)


# Secrets and services. `up`, `demo` and `test` put these four into the environment before Django starts.
DATABASE_URL = env.url("DATABASE_URL", ("postgresql", "postgres"))
REDIS_URL = env.url("REDIS_URL", ("redis", "rediss"))
SECRET_KEY = env.secret("SECRET_KEY")
CREDENTIAL_KEYS = [key for key in env.secret("CREDENTIAL_KEYS").split(",") if key]

for _name, _value in (("SECRET_KEY", SECRET_KEY), ("CREDENTIAL_KEYS", CREDENTIAL_KEYS)):
    if DATABASE_URL and not _value:
        raise SettingError(f"{_name} is not set: it is required with DATABASE_URL (see docs/reference/settings.md)")
for _key in CREDENTIAL_KEYS:
    try:
        _size = len(base64.urlsafe_b64decode(_key))
    except ValueError:
        _size = 0
    if _size != 32:
        raise SettingError("CREDENTIAL_KEYS: a key is not 32 url-safe base64-encoded bytes; make one with Fernet")
SECRET_KEY = SECRET_KEY or secrets.token_urlsafe(48)  # without a database nothing outlives this process

DEBUG = env.flag("DEBUG")
HOST = env.text("HOST", "127.0.0.1")
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
if HOST not in (*ALLOWED_HOSTS, "0.0.0.0", "::"):  # noqa: S104
    ALLOWED_HOSTS.append(f"[{HOST}]" if ":" in HOST else HOST)  # where it listens it may be called
LOG_LEVEL = env.choice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"))
LOG_FORMAT = env.choice("LOG_FORMAT", "json", ("json", "console"))
REQUEST_MAX_BYTES = env.integer("REQUEST_MAX_BYTES", 4 * 1024 * 1024, 1024, 1024**3)

# Agents and models.
DEFAULT_AGENT = env.text("DEFAULT_AGENT", "assistant")
LLM_DEFAULT_MODEL = env.text("LLM_DEFAULT_MODEL", "gemini/gemini-2.5-pro")
LLM_TIMEOUT_SECONDS = env.seconds("LLM_TIMEOUT_SECONDS", 60, 0.1, 3600)
LLM_STALL_SECONDS = env.seconds("LLM_STALL_SECONDS", 30, 0.1, 3600)
LLM_MAX_ATTEMPTS = env.integer("LLM_MAX_ATTEMPTS", 3, 1, 10)
LLM_WAIT_SECONDS = env.seconds("LLM_WAIT_SECONDS", 5, 0, 20)
LLM_CIRCUIT_FAILURES = env.integer("LLM_CIRCUIT_FAILURES", 20, 0, 1000)
LLM_CIRCUIT_WINDOW_SECONDS = env.seconds("LLM_CIRCUIT_WINDOW_SECONDS", 60, 1, 3600)
LLM_CIRCUIT_COOLDOWN_SECONDS = env.seconds("LLM_CIRCUIT_COOLDOWN_SECONDS", 30, 0.1, 3600)
LLM_LIMITS = env.limits("LLM_LIMITS", ("concurrency", "requests_per_minute", "tokens_per_minute"))
for _scope in LLM_LIMITS:
    if not known(_scope.partition("/")[0]):
        raise wrong("LLM_LIMITS", _scope, "name a provider, or provider/model (see docs/reference/models.md)")
LLM_LIMITS = {canonical_model(_scope): _limits for _scope, _limits in LLM_LIMITS.items()}
EMBEDDING_MODEL = env.text("EMBEDDING_MODEL", "local/wordllama")
TOOL_MODULES = env.words("TOOL_MODULES")
PROVIDER_KEYS = {
    "openai": env.secret("OPENAI_API_KEY"),
    "anthropic": env.secret("ANTHROPIC_API_KEY"),
    "gemini": env.secret("GEMINI_API_KEY") or env.secret("GOOGLE_API_KEY"),
    "openrouter": env.secret("OPENROUTER_API_KEY"),
}
READ_SECRET = env.secret  # of a variable that a provider row names
PROVIDER_API_BASES = {
    "openai": env.url("OPENAI_API_BASE", ("http", "https")),
    "anthropic": env.url("ANTHROPIC_API_BASE", ("http", "https")),
    "gemini": env.url("GEMINI_API_BASE", ("http", "https")),
    "openrouter": env.url("OPENROUTER_API_BASE", ("http", "https")),
}

# The fleet.
TASK_LEASE_SECONDS = env.seconds("TASK_LEASE_SECONDS", 30, 0.3, 3600)
TASK_HEARTBEAT_SECONDS = env.seconds("TASK_HEARTBEAT_SECONDS", 10, 0.1, 1200)
TASK_SWEEP_SECONDS = env.seconds("TASK_SWEEP_SECONDS", 5, 0.1, 600)
TASK_REPUBLISH_SECONDS = env.seconds("TASK_REPUBLISH_SECONDS", 30, 0.1, 3600)
TASK_MAX_TAKEOVERS = env.integer("TASK_MAX_TAKEOVERS", 5, 0, 1000)
WORKER_CONCURRENCY = env.integer("WORKER_CONCURRENCY", 100, 1, 1000)
WORKER_QUEUES = env.words("WORKER_QUEUES", "default")
BUDGET_WAIT_DAYS = env.integer("BUDGET_WAIT_DAYS", 7, 0, 3650)
if TASK_LEASE_SECONDS < 3 * TASK_HEARTBEAT_SECONDS:
    _cure = f"use at least three heartbeats (TASK_HEARTBEAT_SECONDS={TASK_HEARTBEAT_SECONDS:g})"
    raise wrong("TASK_LEASE_SECONDS", f"{TASK_LEASE_SECONDS:g}", _cure)
if "default" not in WORKER_QUEUES:
    raise wrong("WORKER_QUEUES", ",".join(WORKER_QUEUES), "name the queue `default` among them")

# Django.
INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "unfold.contrib.forms",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.postgres",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_celery_results",
    "auditlog",
    "llm",
    "memory",
    "agents",
    "tasks",
    "opspawn_site",
]
MIDDLEWARE = [
    "opspawn_site.rest.request_id.RequestIdMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "opspawn_site.audit.audit_middleware",
]
ROOT_URLCONF = "opspawn_site.urls"
ASGI_APPLICATION = "opspawn_site.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "opspawn_site" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
USE_I18N = False
STATIC_URL = "/static/"
WHITENOISE_USE_FINDERS = True  # served from the packages themselves: no STATIC_ROOT, nothing to collect
APPEND_SLASH = False
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_NAME = "opspawn_session"
CSRF_COOKIE_NAME = "opspawn_csrf"
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = REQUEST_MAX_BYTES

# Without DATABASE_URL there is no database: the address refuses connections instead of reaching a stranger's, at
# once, since no pool waits for it.
_database = urlsplit(DATABASE_URL or "postgresql://none@127.0.0.1:1/none")
_pool = {"min_size": 1, "max_size": 20, "timeout": 3, "max_idle": 5, "reconnect_timeout": 1}
DATABASES = {
    "default": {
        "ENGINE": "opspawn_site.postgresql",
        "HOST": _database.hostname,
        "PORT": str(_database.port or 5432),
        "NAME": unquote(_database.path.lstrip("/")),
        "USER": unquote(_database.username or ""),
        "PASSWORD": unquote(_database.password or ""),
        "CONN_MAX_AGE": 0,
        "OPTIONS": {
            "pool": _pool if DATABASE_URL else None,
            "connect_timeout": 3,
            "application_name": "opspawn",
            "prepare_threshold": 0,  # only for cursors that bind on the server; Django's own bind in the text
            "options": "-c idle_in_transaction_session_timeout=60000 -c plan_cache_mode=force_generic_plan",
        },
    }
}

# The admin; opspawn_site/navigation.py holds UNFOLD.
LOGIN_URL, LOGIN_REDIRECT_URL = "/admin/login/", "/admin/"
DATE_FORMAT, TIME_FORMAT, DATETIME_FORMAT = "Y-m-d", "H:i:s", "Y-m-d H:i:s"

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["opspawn_site.rest.authentication.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["opspawn_site.rest.permissions.HasScopes"],
    "DEFAULT_PARSER_CLASSES": ["opspawn_site.rest.parsers.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PAGINATION_CLASS": "opspawn_site.rest.pagination.NewestFirst",
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_SCHEMA_CLASS": "opspawn_site.rest.schema.OperationSchema",
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "opspawn_site.rest.negotiation.AlwaysJSON",
    "EXCEPTION_HANDLER": "opspawn_site.rest.problems.exception_handler",
    "DEFAULT_METADATA_CLASS": None,  # OPTIONS is a 405
    "UNAUTHENTICATED_USER": None,
    "COERCE_DECIMAL_TO_STRING": True,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Opspawn",
    "DESCRIPTION": "Language-model agents as durable tasks.",
    "VERSION": VERSION,
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": [],
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {"TaskStatus": "tasks.states.Status", "StepStatus": "tasks.states.StepStatus"},
}

# Celery. A message is a doorbell with a task id: acknowledged early, never retried, no result.
CELERY_APPLICATION = "opspawn_site.celery.app"  # where `tasks.bell` finds it, without importing upwards
CELERY_BROKER_URL = REDIS_URL or "redis://127.0.0.1:1/0"
CELERY_RESULT_BACKEND = "django-db"  # maintenance jobs only; agent tasks ignore their result
CELERY_RESULT_EXTENDED = True
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_ACKS_LATE = False
CELERY_TASK_PUBLISH_RETRY = False
CELERY_TASK_TRACK_STARTED = True
CELERY_TASK_SEND_SENT_EVENT = True
CELERY_WORKER_SEND_TASK_EVENTS = True
CELERY_WORKER_POOL = "threads"
CELERY_WORKER_CONCURRENCY = WORKER_CONCURRENCY
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_DISABLE_PREFETCH = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_connect_timeout": 2,
    "socket_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 10,
}
CELERY_TIMEZONE = "UTC"

DEFAULT_EXCEPTION_REPORTER = "opspawn_site.error_page.WithoutSecrets"
LOGGING_CONFIG = "opspawn_site.telemetry.configure"
LOGGING = {"level": LOG_LEVEL, "format": LOG_FORMAT}
