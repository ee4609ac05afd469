"""What a key may do: the scopes that a view declares for each method."""
from __future__ import annotations

from typing import Any, cast

from rest_framework.exceptions import MethodNotAllowed, PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from tasks.keys import allows
from tasks.models import ApiKey


class HasScopes(BasePermission):
    """The key has one of the scopes in the view's `scopes[method]`; a method without an entry does not exist."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if request.auth is None:
            return False  # DRF answers 401
        declared: dict[str, Any] = view.scopes
        method = "GET" if request.method == "HEAD" else str(request.method)
        if method not in declared:
            raise MethodNotAllowed(method)
        if not allows(cast(ApiKey, request.auth), *declared[method]):
            raise PermissionDenied(f"This needs an API key with the scope {' or '.join(declared[method])}.")
        return True
