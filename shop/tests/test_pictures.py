"""Pictures: what an operator may upload, what is kept of it, and how it is sent."""

from __future__ import annotations

import re
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.db import connection
from django.db.models.fields.files import FieldFile
from django.test import Client
from django.test.utils import CaptureQueriesContext
from PIL import Image
from pytest_django import Settings

from conftest import MakeProduct
from inventory import pictures
from inventory.models import Product

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Response

pytestmark = pytest.mark.django_db(transaction=True)

NAME = re.compile(r"products/[0-9a-f]{32}\.webp")


@pytest.fixture(autouse=True)
def media(settings: Settings, tmp_path: Path) -> Path:
    settings.MEDIA_ROOT = tmp_path
    return tmp_path


def drawn(kind: str = "PNG", size: tuple[int, int] = (64, 48), **options: Any) -> bytes:
    written = BytesIO()
    Image.effect_noise(size, 30).convert("RGB").save(written, kind, **options)
    return written.getvalue()


def hollow_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims a size and holds none of it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def kept_of(upload: bytes) -> Image.Image:
    return Image.open(pictures.as_webp(BytesIO(upload), size_bytes=len(upload)))


def save_in_admin(client: Client, product: Product, upload: Any = None, **changes: str) -> Response:
    """Open the product's page in the admin, change it and send it, as a browser does."""
    address = f"/admin/inventory/product/{product.pk}/change/"
    form = client.get(address).context["adminform"].form
    fields = {}
    for field in form:
        fields[field.html_name] = field.value()
        if field.field.show_hidden_initial:
            fields[field.html_initial_name] = hidden(field.value())
    fields = {name: value for name, value in fields.items() if value is not None and value != ""}
    fields.pop("image", None)
    if upload is not None:
        fields["image"] = upload
    return client.post(address, {**fields, **changes})


def hidden(value: Any) -> Any:
    """A field's value as a hidden field holds it: of a file, its name."""
    return str(value) if isinstance(value, FieldFile) else value


def errors_of(page: Response) -> list[str]:
    return list(page.context["adminform"].form.errors.get("image", []))


# What is kept


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_keeps_a_picture_as_webp(kind: str) -> None:
    kept = kept_of(drawn(kind))

    assert (kept.format, kept.size) == ("WEBP", (64, 48))


def test_keeps_no_more_than_1200_pixels_and_the_proportions() -> None:
    plain = BytesIO()
    Image.new("RGB", (4000, 2000), "teal").save(plain, "PNG")

    assert kept_of(plain.getvalue()).size == (1200, 600)


def test_a_busy_picture_gets_smaller_so_that_phones_do_not_wait() -> None:
    kept = kept_of(drawn("PNG", (1000, 750)))

    assert max(kept.size) == 640


def test_keeps_no_metadata_and_turns_the_picture_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    exif[0x010E] = "taken at my home"

    kept = kept_of(drawn("JPEG", (64, 48), exif=exif, comment=b"mine"))

    assert kept.size == (48, 64)
    assert not kept.getexif()
    assert not {"exif", "xmp", "icc_profile", "comment"} & kept.info.keys()


def test_keeps_transparency() -> None:
    written = BytesIO()
    Image.new("RGBA", (20, 20), (200, 0, 0, 90)).save(written, "PNG")

    assert kept_of(written.getvalue()).mode == "RGBA"


# What is refused


@pytest.mark.parametrize(
    ("upload", "sentence"),
    [
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "no JPEG, PNG or WebP"),
        (b"GIF89a" + drawn("GIF")[6:], "no JPEG, PNG or WebP"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no JPEG, PNG or WebP"),
        (drawn("JPEG", (640, 480))[:2000], "no JPEG, PNG or WebP"),
        (drawn("PNG")[:-40], "no JPEG, PNG or WebP"),
        (hollow_png(100, 100), "no JPEG, PNG or WebP"),
        (hollow_png(4001, 10), "more than 4000 pixels"),
        (hollow_png(30000, 30000), "no JPEG, PNG or WebP"),
        (b"\x89PNG\r\n\x1a\n", "no JPEG, PNG or WebP"),
        (b"not a picture", "no JPEG, PNG or WebP"),
    ],
)
def test_refuses_what_is_no_harmless_picture(upload: bytes, sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        kept_of(upload)


def test_refuses_more_than_5_mb_before_reading_it() -> None:
    with pytest.raises(ValidationError, match="larger than 5 MB"):
        pictures.as_webp(BytesIO(b"unread"), size_bytes=5 * 1024 * 1024 + 1)


def test_decodes_nothing_whose_size_is_not_known_to_be_harmless(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def decode(*args: object, **kwargs: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(pictures.ImageOps, "exif_transpose", decode)

    with pytest.raises(ValidationError, match="more than 4000 pixels"):
        kept_of(hollow_png(4001, 4000))


# In the admin


def test_an_upload_is_kept_under_a_name_nobody_chose(
    admin_client: Client, make_product: MakeProduct, media: Path
) -> None:
    product = make_product()
    upload = SimpleUploadedFile("../../evil<script>.svg.png", drawn(), "image/svg+xml")

    save_in_admin(admin_client, product, upload)

    product.refresh_from_db()
    name = str(product.image)
    assert NAME.fullmatch(name)
    assert [file.name for file in (media / "products").iterdir()] == [name[9:]]
    assert Image.open(media / name).format == "WEBP"


@pytest.mark.parametrize("upload", [b"<svg/>", hollow_png(5000, 5000), b""])
def test_a_refused_upload_changes_nothing_and_says_why(
    admin_client: Client, make_product: MakeProduct, media: Path, upload: bytes
) -> None:
    product = make_product()

    page = save_in_admin(admin_client, product, SimpleUploadedFile("a.png", upload), name="Other")

    assert errors_of(page)
    product.refresh_from_db()
    assert (product.name, product.image.name) == ("Lamp", "")
    assert not list(media.iterdir())


def test_saving_other_fields_leaves_the_picture_alone(
    admin_client: Client, make_product: MakeProduct
) -> None:
    """Also one that a colleague uploaded since the page was opened."""
    product = make_product()
    save_in_admin(admin_client, product, SimpleUploadedFile("a.png", drawn()))
    product.refresh_from_db()

    with CaptureQueriesContext(connection) as queries:
        response = save_in_admin(admin_client, product, name="Other")

    assert response.status_code == 302
    written = [query["sql"] for query in queries if query["sql"].startswith("UPDATE")]
    assert any("name" in sql for sql in written)
    assert not any("image" in sql for sql in written)


def test_a_picture_can_be_taken_away(admin_client: Client, make_product: MakeProduct) -> None:
    product = make_product()
    save_in_admin(admin_client, product, SimpleUploadedFile("a.png", drawn()))

    save_in_admin(admin_client, product, **{"image-clear": "on"})

    product.refresh_from_db()
    assert product.image.name == ""


# How it is sent


@pytest.fixture
def pictured(admin_client: Client, make_product: MakeProduct) -> Product:
    product = make_product()
    save_in_admin(admin_client, product, SimpleUploadedFile("a.png", drawn()))
    product.refresh_from_db()
    return product


def test_is_sent_with_a_fixed_type_and_kept_for_good(client: Client, pictured: Product) -> None:
    response = client.get(pictured.image.url)

    assert response.status_code == 200
    assert Image.open(BytesIO(response.getvalue())).format == "WEBP"
    assert response["Content-Type"] == "image/webp"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Cache-Control"] == "public, max-age=31536000, immutable"
    assert not response.cookies


@pytest.mark.parametrize("address", ["/", "/products/lamp/"])
def test_is_in_the_pages_with_its_place_kept_for_it(
    client: Client, pictured: Product, address: str
) -> None:
    found = re.search(r'<img class="picture"[^>]*>', client.get(address).content.decode())

    assert found
    assert f'src="{pictured.image.url}"' in found[0]
    assert 'width="1200" height="900"' in found[0]


def test_a_product_without_one_has_a_drawn_stand_in(
    client: Client, make_product: MakeProduct
) -> None:
    make_product()

    assert "shop/no-picture.svg" in client.get("/products/lamp/").content.decode()


@pytest.mark.parametrize(
    "name",
    [
        "0" * 32 + ".webp",
        "../shop.sqlite3",
        "..%2Fshop.sqlite3",
        "%2e%2e/secret",
        "0" * 32 + ".svg",
        "0" * 32 + ".webp%00",
        "",
    ],
)
def test_nothing_else_is_sent(client: Client, media: Path, name: str) -> None:
    (media / "secret").write_text("secret")
    (media / "products").mkdir()
    (media / "products" / ("0" * 32 + ".svg")).write_text("<svg/>")

    assert client.get(f"/media/products/{name}").status_code == 404


def test_the_demo_has_pictures_of_its_own(client: Client, media: Path) -> None:
    call_command("seed_demo", verbosity=0)

    shown = Product.objects.for_sale()
    assert all(NAME.fullmatch(str(product.image)) for product in shown)
    assert all(client.get(product.image.url).status_code == 200 for product in shown)
    assert max(file.stat().st_size for file in (media / "products").iterdir()) <= 9 * 1024
