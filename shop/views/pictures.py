"""Products' pictures, as the admin wrote them."""

from __future__ import annotations

from django.core.files.storage import default_storage
from django.http import FileResponse, Http404, HttpRequest
from django.views.decorators.http import require_safe

A_YEAR_S = 365 * 24 * 3600


@require_safe
def picture(request: HttpRequest, name: str) -> FileResponse:
    """Send a picture; its name is never given to another, so it may be kept for good."""
    try:
        file = default_storage.open(f"products/{name}")
    except FileNotFoundError as error:
        raise Http404 from error
    headers = {"Cache-Control": f"public, max-age={A_YEAR_S}, immutable"}
    return FileResponse(file, content_type="image/webp", headers=headers)
