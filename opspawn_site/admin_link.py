"""A link that signs an administrator in once: for the one who holds the terminal, in the browser beside it.

The token names the moment of the user's last login, and signing in changes that moment: a link that was used, or
is older than another login, is worth nothing. It also ends by itself after ten minutes.
"""
from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib.auth import get_user_model, login
from django.contrib.auth.models import User
from django.core import signing
from django.http import HttpRequest, HttpResponse, HttpResponseForbidden, HttpResponseRedirect
from django.utils import timezone
from django.utils.html import format_html
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

SALT = "opspawn.admin-link"
LIFE_SECONDS = 600
HOME = "/admin/"
SPENT = (
    "<!doctype html><title>Opspawn</title><p>This link was used already, or is older than ten minutes.</p>"
    '<p><a href="{}">Sign in with the password</a>, or run <code>./opspawn demo</code> for a new link.</p>'
)


def token_for(user: User) -> str:
    return signing.dumps([user.pk, _moment(user)], salt=SALT)


def link_for(site: str, user: User, page: str = HOME) -> str:
    """The whole address; `site` is like http://127.0.0.1:8000."""
    return f"{site}/admin/enter/?{urlencode({'token': token_for(user), 'next': page})}"


def spend(token: str) -> User | None:
    """The user whom the token signs in, for this one time; None when it is not good any more.

    One UPDATE decides: of two who come at once with the same link, one gets in.
    """
    try:
        pk, moment = signing.loads(token, salt=SALT, max_age=LIFE_SECONDS)
    except (signing.BadSignature, ValueError, TypeError):
        return None
    staff: Any = get_user_model().objects.filter(pk=pk, is_active=True, is_staff=True)
    user: User | None = staff.first()
    if user is None or _moment(user) != moment:
        return None
    taken = staff.filter(last_login=user.last_login) if moment else staff.filter(last_login__isnull=True)
    return user if taken.update(last_login=timezone.now()) else None


@never_cache
@require_safe
def enter(request: HttpRequest) -> HttpResponse:
    """Sign in by token and go on to `next`, a page of this site. HEAD asks without spending the link."""
    if request.method == "HEAD":
        return HttpResponse()
    user = spend(request.GET.get("token", ""))
    if user is None:
        return HttpResponseForbidden(format_html(SPENT, HOME))
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    page = request.GET.get("next", HOME)
    here = url_has_allowed_host_and_scheme(page, allowed_hosts=None)
    answer = HttpResponseRedirect(page if here and page.startswith("/") else HOME)
    answer["Referrer-Policy"] = "no-referrer"
    return answer


def _moment(user: User) -> str:
    return user.last_login.isoformat() if user.last_login else ""
