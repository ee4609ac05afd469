"""Every error of the API as problem+json (RFC 9457): one shape, one table, no exception text."""
from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from http import HTTPStatus
from typing import Any

import structlog
from django.core.exceptions import SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt
from rest_framework.exceptions import APIException, NotFound, ValidationError

from agents import errors as agent_errors
from agents.errors import AgentError, FieldProblem
from agents.strict import at
from tasks import errors as task_errors
from tasks.errors import TaskError

log = structlog.get_logger(__name__)

HTTP_OF_ERROR: dict[type[Exception], int] = {
    agent_errors.UnknownAgent: 404,
    agent_errors.UnknownVersion: 404,
    agent_errors.AgentArchived: 409,
    agent_errors.SlugTaken: 409,
    agent_errors.StaleVersion: 412,
    agent_errors.ConfigInvalid: 400,
    agent_errors.AdminNeeded: 403,
    agent_errors.UnknownCredential: 404,
    agent_errors.CredentialTaken: 409,
    agent_errors.CredentialInUse: 409,
    task_errors.UnknownTask: 404,
    task_errors.SubmissionInvalid: 400,
    task_errors.AlreadyFinal: 409,
    task_errors.NotFinal: 409,
    task_errors.NotWaiting: 409,
    task_errors.WrongKind: 409,
    task_errors.StillNeeded: 409,
    task_errors.BudgetExists: 409,
    task_errors.PriceExists: 409,
    task_errors.IdempotencyConflict: 422,
}
# What can be answered when PostgreSQL is away; psycopg's PoolTimeout arrives as an OperationalError.
UNAVAILABLE = (OperationalError, InterfaceError)
RETRY_AFTER_SECONDS = 2
RETRYABLE = {429, 503}
CODES = {400: "invalid", 403: "permission_denied", 404: "not_found", 413: "body_too_large", 500: "internal_error"}


class Invalid(Exception):
    """The request cannot be read as what it should be; `problems` holds every reason."""

    def __init__(self, problems: list[FieldProblem]) -> None:
        super().__init__(problems[0].detail)
        self.problems = problems


def answer(
    request: HttpRequest, status: int, code: str, detail: str, problems: Iterable[FieldProblem] = ()
) -> HttpResponse:
    """The problem document. `about:blank` says that the status and `code` are the whole type (RFC 9457, 4.2.1)."""
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": request.path,
        "code": code,
        "request_id": getattr(request, "request_id", ""),
        "retryable": status in RETRYABLE,
        "errors": [{"pointer": one.pointer, "code": one.code, "detail": one.detail} for one in problems],
    }
    text = json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")
    response = HttpResponse(text, status=status, content_type="application/problem+json")
    if status == 503:
        response["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def exception_handler(error: Exception, context: dict[str, Any]) -> HttpResponse:
    """DRF's hook: whatever a view raised becomes its problem."""
    request: HttpRequest = context["request"]._request
    if isinstance(error, AgentError | TaskError):
        return declared(request, error)
    if isinstance(error, UNAVAILABLE):
        return unavailable(request, error)
    if isinstance(error, SuspiciousOperation):  # a thousand query parameters, as Django counts them
        return bad_request(request, error)
    if isinstance(error, Http404):
        error = NotFound()
    if isinstance(error, Invalid):
        return invalid(request, error.problems)
    if isinstance(error, ValidationError):
        return invalid(request, list(problems_in(error.detail)))
    if isinstance(error, APIException):
        return of_framework(request, error)
    log.exception("request_failed", path=request.path)
    return internal_error(request)


def declared(request: HttpRequest, error: AgentError | TaskError) -> HttpResponse:
    """An error that the table knows. One that names fields of the body is a 400, whatever the table says."""
    status = HTTP_OF_ERROR.get(type(error), 400)
    if status == 404 and error.problems:
        status = 400
    if status == 400 and error.problems:
        return invalid(request, list(error.problems))
    return answer(request, status, CODES[404] if status == 404 else error.code, str(error), error.problems)


def invalid(request: HttpRequest, problems: list[FieldProblem]) -> HttpResponse:
    """A 400 with every problem; its code is the problem's when there is only one."""
    if len(problems) == 1:
        return answer(request, 400, problems[0].code, problems[0].detail, problems)
    detail = f"The request has {len(problems)} problems; `errors` names each."
    return answer(request, 400, CODES[400], detail, problems)


def problems_in(detail: Any, pointer: str = "") -> Iterator[FieldProblem]:
    """DRF's nested error details, flattened to JSON pointers (RFC 6901): {"a": [["x"]]} → /a."""
    if isinstance(detail, dict):
        for name, inner in detail.items():
            yield from problems_in(inner, pointer if name == "non_field_errors" else at(pointer, name))
    elif isinstance(detail, list):
        nested = any(isinstance(inner, dict) for inner in detail)
        for index, inner in enumerate(detail):
            yield from problems_in(inner, at(pointer, index) if nested else pointer)
    else:
        yield FieldProblem(pointer, detail.code, str(detail))


def of_framework(request: HttpRequest, error: APIException) -> HttpResponse:
    code = str(getattr(error.detail, "code", None) or error.default_code)
    response = answer(request, error.status_code, code, str(error.detail))
    if header := getattr(error, "auth_header", ""):
        response["WWW-Authenticate"] = header
    return response  # DRF adds `Allow`


def unavailable(request: HttpRequest, error: Exception) -> HttpResponse:
    log.warning("database_unavailable", path=request.path, error=type(error).__name__, reason=str(error)[:200])
    if not is_api(request):
        return page(503, "Opspawn cannot reach its database. Reload this page in a moment.")
    return answer(request, 503, "unavailable", "The database cannot be reached at the moment; try again soon.")


def too_large(request: HttpRequest, limit: int) -> HttpResponse:
    return answer(request, 413, CODES[413], f"The body is larger than {limit} bytes (REQUEST_MAX_BYTES).")


def internal_error(request: HttpRequest) -> HttpResponse:
    return answer(request, 500, CODES[500], "The server met an unexpected error; its log has it under this request_id.")


def read_only(view: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """A view for GET and HEAD outside of DRF; any other method is a 405, also without the admin's CSRF cookie."""

    @csrf_exempt
    @wraps(view)
    def guarded(request: HttpRequest) -> HttpResponse:
        if request.method in ("GET", "HEAD"):
            return view(request)
        response = answer(request, 405, "method_not_allowed", f"{request.method} is not allowed here; use GET.")
        response["Allow"] = "GET, HEAD"
        return response

    return guarded


def is_api(request: HttpRequest) -> bool:
    return request.path.startswith("/api/") or request.path in ("/healthz", "/readyz", "/metrics")


def page(status: int, sentence: str) -> HttpResponse:
    title = HTTPStatus(status).phrase
    html = f"<!doctype html><title>{title}</title><h1>{title}</h1><p>{sentence}</p>"
    response = HttpResponse(html, status=status)
    if status == 503:
        response["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


# Django's own four handlers (`handler400` … in urls.py): what never reached a view, or failed outside of one.


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if is_api(request):
        return answer(request, 400, CODES[400], "The request cannot be read; check its Host header and its URL.")
    return defaults.bad_request(request, exception)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    if is_api(request):
        return answer(request, 403, CODES[403], "That is not allowed.")
    return defaults.permission_denied(request, exception)


@csrf_exempt  # a 404 for whoever writes there, too
def not_found(request: HttpRequest, exception: Exception | None = None, rest: str = "") -> HttpResponse:
    if is_api(request):
        return answer(request, 404, CODES[404], "There is nothing at this URL; /api/schema/ lists what there is.")
    return defaults.page_not_found(request, exception or Http404())


def server_error(request: HttpRequest) -> HttpResponse:
    """Called while the exception is handled; a database that is away is told from a defect."""
    error = sys.exc_info()[1]
    if isinstance(error, UNAVAILABLE):
        return unavailable(request, error)
    return internal_error(request) if is_api(request) else defaults.server_error(request)
