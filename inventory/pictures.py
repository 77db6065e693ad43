"""What an operator uploads becomes a small WebP of a name nobody chose."""

from __future__ import annotations

import uuid
from io import BytesIO
from typing import IO

from django.core.exceptions import ValidationError
from django.core.files.base import ContentFile
from PIL import Image, ImageOps

MAX_UPLOAD_BYTES = 5 * 1024 * 1024
MAX_SIDE_PX = 4000
FORMATS = ("JPEG", "PNG", "WEBP")
SIZES = ((1200, 80), (1200, 60), (900, 60), (640, 60), (640, 40))
"""Longest side in pixels and WebP quality, tried in this order."""
TARGET_BYTES = 16 * 1024
"""The first size that is no heavier is taken, else the last: a phone waits for it in a sale."""


def as_webp(upload: IO[bytes], *, size_bytes: int) -> ContentFile[bytes]:
    """
    Read a JPEG, PNG or WebP and write it anew, upright and without its metadata.

    Raises ValidationError with what to do about it. Nothing is decoded before its size in
    bytes and pixels is known to be harmless.
    """
    if size_bytes > MAX_UPLOAD_BYTES:
        raise ValidationError("The picture is larger than 5 MB. Choose a smaller one.")
    try:
        with Image.open(upload, formats=FORMATS) as picture:
            if max(picture.size) > MAX_SIDE_PX:
                raise ValidationError(
                    f"The picture is more than {MAX_SIDE_PX} pixels wide or high. Scale it down."
                )
            upright = ImageOps.exif_transpose(picture).convert("RGBA")
    except ValidationError:
        raise
    except Exception as error:  # Pillow raises all sorts at a broken or hostile file
        raise ValidationError("This is no JPEG, PNG or WebP that can be read.") from error
    return ContentFile(_small_webp(upright), name=f"{uuid.uuid4().hex}.webp")


def _small_webp(picture: Image.Image) -> bytes:
    if picture.getchannel("A").getextrema() == (255, 255):
        picture = picture.convert("RGB")
    for side_px, quality in SIZES:
        smaller = picture.copy()
        smaller.thumbnail((side_px, side_px))
        written = BytesIO()
        smaller.save(written, "WEBP", quality=quality)
        if written.tell() <= TARGET_BYTES:
            break
    return written.getvalue()
