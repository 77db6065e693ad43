from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class LoadtestsConfig(AppConfig):
    """The load lab: drive the shop over HTTP, judge what happened, keep it."""

    name = "loadtests"
    verbose_name = _("Load lab")
    default_auto_field = "django.db.models.BigAutoField"
