"""The bases of the admin's pages: lists that never count a whole table, pages that only show, verbs that POST."""
from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.core.paginator import EmptyPage, Page, Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import DropdownFilter
from unfold.forms import BaseDialogForm
from unfold.views import ChangeList

COUNT_CAP = 1000
PAGES_CAP = 10_000


class CappedPaginator(Paginator):
    """Pages of a list whose count stops at `COUNT_CAP`, inside the query; later pages are there all the same.

    `count` is COUNT_CAP + 1 when there are more rows than that.
    """

    template_name = "console/pages.html"

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list  # a queryset here, never a list
        return rows.order_by()[: COUNT_CAP + 1].count()

    @property
    def capped(self) -> bool:
        return self.count > COUNT_CAP

    @cached_property
    def num_pages(self) -> int:
        return PAGES_CAP if self.capped else max(1, -(-self.count // self.per_page))

    def page(self, number: int | str) -> Page:
        place = self.validate_number(number)
        start = (place - 1) * self.per_page
        rows = self.object_list[start : start + self.per_page]
        if self.capped and place > 1 and not rows:
            raise EmptyPage("That page contains no results")
        return Page(rows, place, self)


class CappedList(ChangeList):
    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.full_result_count = self.result_count  # the header would offer to show a total that nobody counted


class ConsoleAdmin(ModelAdmin):
    """A list costs the same at any size. `empty_words` are said when it is empty; `note_words` stand above it."""

    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # a facet counts the whole table for each of its choices
    list_per_page = 50
    list_max_show_all = 200
    list_disable_select_all = True
    list_filter_submit = True
    list_fullwidth = True
    change_list_template = "console/change_list.html"
    change_form_show_cancel_button = True
    empty_words = ""

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:  # fmt: skip
        """One way to save."""
        extra = (extra_context or {}) | {"show_save_and_continue": False, "show_save_and_add_another": False}
        return super().changeform_view(request, object_id, form_url, extra)

    def get_changelist(self, request: HttpRequest, **options: Any) -> type[ChangeList]:
        return CappedList

    def log_addition(self, *args: Any, **options: Any) -> None:
        """auditlog keeps the one trail; Django's own, without values, would be a second."""

    log_change = log_deletions = log_addition


class ReadOnlyAdmin(ConsoleAdmin):
    """Rows that are shown and never changed here."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


PERIODS = {
    "hour": ("Last hour", datetime.timedelta(hours=1)),
    "day": ("Last 24 hours", datetime.timedelta(days=1)),
    "week": ("Last 7 days", datetime.timedelta(days=7)),
    "month": ("Last 30 days", datetime.timedelta(days=30)),
}


class PeriodFilter(DropdownFilter):
    """Rows since a moment; a subclass says by `since` which index finds them."""

    title = "time"
    parameter_name = "period"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterator[tuple[str, str]]:
        return ((key, words) for key, (words, _) in PERIODS.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if self.value() not in PERIODS:
            return queryset
        return queryset.filter(**self.since(timezone.now() - PERIODS[self.value()][1]))

    def since(self, moment: datetime.datetime) -> dict[str, Any]:
        raise NotImplementedError


def leave_for(request: HttpRequest, url: str) -> HttpResponse:
    """Send the browser on after a dialog was confirmed, whether htmx or a plain form posted it."""
    if request.headers.get("HX-Request"):
        return HttpResponse(headers={"HX-Redirect": url})
    return HttpResponseRedirect(url)


def dialog(title: str, description: str, submit: str, form: type[BaseDialogForm] = BaseDialogForm) -> dict[str, Any]:
    """What a verb asks before it is done, for `unfold.decorators.action(dialog=...)`."""
    return {"title": title, "description": description, "form_class": form, "form_submit_text": submit}


def line(text: str) -> SafeString:
    """A cell that does not wrap."""
    return format_html('<span class="console-line">{}</span>', text)


def moment(at: datetime.datetime) -> SafeString:
    """UTC, to the second, on one line."""
    return line(f"{at.astimezone(datetime.UTC):%Y-%m-%d %H:%M:%S}")


def clip(text: str) -> SafeString:
    """A cell that shows the start of its text, and all of it under the pointer."""
    return format_html('<span class="console-clip" title="{0}">{0}</span>', text)
