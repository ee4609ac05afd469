"""Every address of the site."""
from __future__ import annotations

from django.contrib import admin
from django.urls import include, path, re_path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularSwaggerView

from opspawn_site import admin_link, health
from opspawn_site.metrics import metrics
from opspawn_site.rest import problems
from opspawn_site.rest.schema import schema

urlpatterns = [
    path("", RedirectView.as_view(url="/admin/")),
    path("admin/enter/", admin_link.enter),
    path("admin/", admin.site.urls),
    path("api/v1/", include("tasks.urls")),
    path("api/v1/", include("agents.urls")),
    path("api/schema/", problems.read_only(schema), name="schema"),
    path("api/docs/", SpectacularSwaggerView.as_view(url="/api/schema/")),
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("metrics", metrics),
    re_path(r"^api/(?P<rest>.*)$", problems.not_found),  # also with DEBUG, whose 404 is a page
]

handler400 = problems.bad_request
handler403 = problems.permission_denied
handler404 = problems.not_found
handler500 = problems.server_error
