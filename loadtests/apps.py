from django.apps import AppConfig


class LoadtestsConfig(AppConfig):
    """The load lab: drive the shop over HTTP, judge what happened, keep it."""

    name = "loadtests"
    verbose_name = "Load lab"
    default_auto_field = "django.db.models.BigAutoField"
