"""Every address of the shop."""

from django.conf import settings
from django.contrib import admin
from django.urls import path

from shop import health, views

admin.site.site_header = admin.site.site_title = "Last Unit"
admin.site.index_title = "The operator's desk"

on_the_loop = settings.SERVER_KIND == "asgi"

urlpatterns = [
    path("", views.product_list, name="product-list"),
    path("products/<slug:slug>/", views.product_page, name="product"),
    path("products/<slug:slug>/buy/", views.abuy if on_the_loop else views.buy, name="buy"),
    path("products/<slug:slug>/stock/", views.live_stock, name="stock"),
    path("products/<slug:slug>/tickets/<uuid:reference>/", views.ticket_page, name="ticket"),
    path("orders/", views.order_list, name="order-list"),
    path("orders/<uuid:reference>/", views.order_page, name="order"),
    path("healthz", health.ahealthz if on_the_loop else health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("admin/", admin.site.urls),
]
handler400 = "shop.refusals.bad_request"
handler404 = "shop.refusals.not_found"
handler500 = "shop.refusals.server_error"
