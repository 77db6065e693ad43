"""What gunicorn's asgi worker serves."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
django.setup(set_prefix=False)

from shop.serving import BoundedHandler  # noqa: E402  # it reads the settings

application = BoundedHandler()
