"""Settings: read from the environment here and nowhere else; units are in the names."""

from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured
from redis.backoff import NoBackoff
from redis.retry import Retry

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()
env.read_env(BASE_DIR / ".env")

DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = env.str("SECRET_KEY", default="only-for-debugging" if DEBUG else "")
if not SECRET_KEY:
    raise ImproperlyConfigured("Set SECRET_KEY (outside DEBUG there is no default).")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])

HTTPS = env.bool("HTTPS", default=not DEBUG)
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
if env.bool("BEHIND_PROXY", default=False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
TRUSTED_PROXIES = env.int("TRUSTED_PROXIES", default=0)
"""How many proxies in front append to X-Forwarded-For; without any the header is ignored."""
CSRF_COOKIE_HTTPONLY = True
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
        "object-src": ["'none'"],
    }
}
CSRF_FAILURE_VIEW = "shop.refusals.csrf_failure"
MAX_BODY_BYTES = 64 * 1024
MAX_UPLOAD_BYTES = DATA_UPLOAD_MAX_MEMORY_SIZE = 5 * 1024 * 1024
BODY_WAIT_S = env.float("BODY_WAIT_S", default=10)
"""How long a client may take to send the body of its request."""

INSTALLED_APPS = [
    "shop.apps.ShopConfig",
    "inventory",
    "loadtests",
    "shop.apps.DeskConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "axes",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_htmx",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "shop.csp.PolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "shop.bodies.WholeBodyMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "shop.refusals.DatabaseOutageMiddleware",
    "shop.refusals.NotAllowedMiddleware",
    "axes.middleware.AxesMiddleware",
]
SERVER_TIMING = env.bool("SERVER_TIMING", default=False)
if SERVER_TIMING:
    MIDDLEWARE.append("shop.timing.ServerTimingMiddleware")
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "shop.accounts.account",
            ]
        },
    }
]

SHORTEST_SECRET = 32
LOCK_WAIT_S = 3
SQLITE_URL = f"sqlite:///{BASE_DIR / 'var' / 'shop.sqlite3'}"
DATABASE_URL = env.str("DATABASE_URL", default="") or SQLITE_URL
DATABASE: dict[str, Any] = dict(env.db_url_config(DATABASE_URL))
if "mysql" in DATABASE["ENGINE"]:
    DATABASE["ENGINE"] = "inventory.mysql"
    DATABASE["CONN_MAX_AGE"] = 60
    DATABASE["CONN_HEALTH_CHECKS"] = True
    DATABASE.setdefault("OPTIONS", {}).update(
        {
            "charset": "utf8mb4",
            "isolation_level": "read committed",
            "init_command": f"SET SESSION innodb_lock_wait_timeout={LOCK_WAIT_S},"
            " SESSION lock_wait_timeout=10",
            "connect_timeout": 2,
            "read_timeout": 6,
            "write_timeout": 6,
        }
    )
else:
    DATABASE["CONN_MAX_AGE"] = None
    DATABASE.setdefault("OPTIONS", {}).update(
        {
            "transaction_mode": "IMMEDIATE",
            "timeout": 5,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
        }
    )
DATABASES = {"default": DATABASE}
SERVER_KIND = env.str("SERVER_KIND", default="wsgi")
if SERVER_KIND not in ("wsgi", "asgi"):
    raise ImproperlyConfigured("SERVER_KIND is either wsgi or asgi.")
ASYNC_CONNECTIONS = env.int("ASYNC_CONNECTIONS", default=16)
"""Database connections of one asgi worker's event loop."""
ASYNC_THREADS = env.int("ASYNC_THREADS", default=8)
"""Threads of one asgi worker, each with one more connection, for all that is not asynchronous."""
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = env.str("REDIS_URL", default="").rstrip("/")
if urlsplit(REDIS_URL).path or urlsplit(REDIS_URL).query:
    raise ImproperlyConfigured("REDIS_URL names the server only: its databases are set here.")
CACHES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
}
REDIS_TIMEOUT_S = 0.5
if REDIS_URL:
    redis_options = {
        "SOCKET_CONNECT_TIMEOUT": REDIS_TIMEOUT_S,
        "SOCKET_TIMEOUT": REDIS_TIMEOUT_S,
        "CONNECTION_POOL_KWARGS": {"retry": Retry(NoBackoff(), 0)},
    }
    CACHES["default"] = {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": f"{REDIS_URL}/0",
        "OPTIONS": redis_options,
    }
    CACHES["locks"] = {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": f"{REDIS_URL}/1",
        "KEY_PREFIX": "lastunit",
        "OPTIONS": redis_options,
    }

ADMISSION_S = env.int("ADMISSION_S", default=300)
"""How long a buyer let in from a waiting room has to buy."""


def _rate(name: str, default: str) -> tuple[int, int]:
    """Read “requests/seconds” from the environment."""
    most, _, seconds = env.str(name, default=default).partition("/")
    if not (most.isdecimal() and seconds.isdecimal() and int(most) and int(seconds)):
        raise ImproperlyConfigured(f"{name} is “requests/seconds”, like {default}.")
    return int(most), int(seconds)


RATE_LIMITS: dict[str, dict[str, tuple[int, int]]] = {
    scope: {
        "buyer": _rate(f"RATE_{scope.upper()}_BUYER", buyer),
        "address": _rate(f"RATE_{scope.upper()}_ADDRESS", address),
    }
    for scope, buyer, address in (
        ("buy", "10/10", "300/10"),
        ("sign_in", "10/60", "100/60"),
        ("queue_entry", "20/60", "300/60"),
        ("queue", "40/10", "2000/10"),
    )
}
"""Requests in seconds; an address may be an office or a phone network, so it has far more."""
RATE_LIMITS["mail"] = {"buyer": _rate("RATE_MAIL_MAILBOX", default="5/3600")}
"""Mails to one mailbox, for anybody can name it."""
if not env.bool("RATE_LIMITS", default=True):
    RATE_LIMITS = {}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "order-list"

AXES_HANDLER = "shop.throttling.PatientHandler"
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False  # or trying on would prolong a lock
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False
AXES_USERNAME_CALLABLE = "shop.throttling.noted_name"
AXES_CLIENT_IP_CALLABLE = "shop.throttling.noted_address"
AXES_LOCKOUT_CALLABLE = "shop.views.accounts.locked_out"

vars().update(env.email_url_config(env.str("EMAIL_URL", default="") or "consolemail://"))
EMAIL_TIMEOUT = 5
DEFAULT_FROM_EMAIL = env.str("EMAIL_FROM", default="") or "Last Unit <shop@localhost>"
SITE_URL = (env.str("SITE_URL", default="") or "http://localhost:8000").rstrip("/")
"""Where mails that no request asked for say that the shop is."""

ALERT_LOW_STOCK_UNITS = env.int("ALERT_LOW_STOCK_UNITS", default=10)
ALERT_LAG_S = env.float("ALERT_LAG_S", default=10)
ALERT_LAG_ENTRIES = env.int("ALERT_LAG_ENTRIES", default=1000)
"""Accepted purchases that wait for a consumer: so old, or so many, is worth an alert."""
ALERT_AUDIT_MINUTES = env.float("ALERT_AUDIT_MINUTES", default=15)
"""How often `send_alerts` audits each product at most; an audit reads all of its books."""
ALERT_EMAILS = env.list("ALERT_EMAILS", default=[])
ALERT_WEBHOOK_URL = env.str("ALERT_WEBHOOK_URL", default="")
ALERT_WEBHOOK_SECRET = env.str("ALERT_WEBHOOK_SECRET", default="")
if ALERT_WEBHOOK_URL:
    _receiver = urlsplit(ALERT_WEBHOOK_URL)
    _here = DEBUG or _receiver.hostname in ("localhost", "127.0.0.1", "::1")
    if _receiver.scheme != "https" and not (_receiver.scheme == "http" and _here):
        raise ImproperlyConfigured("ALERT_WEBHOOK_URL begins with https://.")
    if len(ALERT_WEBHOOK_SECRET) < SHORTEST_SECRET:
        raise ImproperlyConfigured(
            f"ALERT_WEBHOOK_SECRET has at least {SHORTEST_SECRET} characters."
        )

STAFF_SECOND_FACTOR = env.bool("STAFF_SECOND_FACTOR", default=False)
"""Whether the operator's desk asks for a code of the phone beside the password."""
OTP_TOTP_ISSUER = "Last Unit"

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("zh-hans", "简体中文")]
LOCALE_PATHS = [BASE_DIR / "shop" / "locale"]
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "var" / "static"
MEDIA_URL = "media/"
MEDIA_ROOT = BASE_DIR / "var" / "media"
WHITENOISE_USE_FINDERS = env.bool("STATIC_FROM_SOURCE", default=DEBUG)
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if WHITENOISE_USE_FINDERS
        else "shop.static_files.GzippedStaticFiles"
    },
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name} {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env.str("LOG_LEVEL", default="WARNING")},
}
