"""What gunicorn's gthread worker serves."""

import os

from django.core.wsgi import get_wsgi_application

from shop.media_types import TolerantWSGIRequest

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
application = get_wsgi_application()
application.request_class = TolerantWSGIRequest
