"""Every address of the shop."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path, re_path
from django.views.i18n import set_language

from shop import health
from shop.views import api, buying, orders, payments, pictures, products, waiting
from shop.views.limiting import limited

on_the_loop = settings.SERVER_KIND == "asgi"
queue = waiting.aqueue if on_the_loop else waiting.queue

urlpatterns = [
    path("", products.product_list, name="product-list"),
    path("products/<slug:slug>/", products.product_page, name="product"),
    path("products/<slug:slug>/buy/", buying.abuy if on_the_loop else buying.buy, name="buy"),
    path("products/<slug:slug>/stock/", products.live_stock, name="stock"),
    path("products/<slug:slug>/queue/", queue, name="queue"),
    path("products/<slug:slug>/tickets/<uuid:reference>/", buying.ticket_page, name="ticket"),
    path("orders/", orders.order_list, name="order-list"),
    path("orders/<uuid:reference>/", orders.order_page, name="order"),
    path("orders/<uuid:reference>/pay/", payments.pay, name="pay"),
    path("orders/<uuid:reference>/cancel/", payments.cancel, name="cancel"),
    path("payments/simulated/", payments.simulated_payment, name="simulated-payment"),
    path("payments/simulated/confirm/", payments.confirm, name="simulated-confirm"),
    path("account/", include("shop.account_urls")),
    re_path(r"^media/products/(?P<name>[0-9a-f]{32}\.webp)$", pictures.picture, name="picture"),
    path("i18n/setlang/", set_language, name="set_language"),
    path("openapi.json", api.openapi, name="openapi"),
    path("healthz", health.ahealthz if on_the_loop else health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("admin/login/", limited("sign_in")(admin.site.login)),
    path("admin/", admin.site.urls),
]
handler400 = "shop.refusals.bad_request"
handler404 = "shop.refusals.not_found"
handler500 = "shop.refusals.server_error"
