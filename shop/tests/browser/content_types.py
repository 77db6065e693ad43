"""Content types that keep their numbers, by which a running server remembers them."""

from __future__ import annotations

from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection

_numbers: dict[tuple[str, str], int] = {}


def keep_content_types() -> None:
    """Give each the number it had first: emptying the database between tests makes new ones."""
    ContentType.objects.clear_cache()
    with connection.constraint_checks_disabled():
        for kind in ContentType.objects.all():
            number = _numbers.setdefault((kind.app_label, kind.model), kind.pk)
            if number != kind.pk:
                ContentType.objects.filter(pk=kind.pk).update(id=number)
                Permission.objects.filter(content_type=kind.pk).update(content_type=number)
