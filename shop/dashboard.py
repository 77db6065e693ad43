"""What the desk's first page shows: the figures and the alerts, in words."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils.translation import gettext_lazy as _

from inventory.models import Product
from inventory.overview import Figures, ProductFigures, read_figures
from inventory.strategies import STRATEGIES
from shop.alerts import Alert, Kind, alerts_in, last_audits
from shop.models import ProductAudit

REASONS = {
    "sold_out": _("sold out"),
    "limit_reached": _("limit reached"),
    "not_open": _("not open"),
    "busy": _("busy"),
    "outcome_unknown": _("outcome unknown"),
}
STATES = {
    Product.SaleState.OPENS: _("Not open yet"),
    Product.SaleState.OPEN: _("On sale"),
    Product.SaleState.SOLD_OUT: _("Sold out"),
    Product.SaleState.ENDED: _("Sale ended"),
}
GRAVE = {Kind.AUDIT, Kind.COUNTER_DRIFT, Kind.CONSUMER_LAG}


def shown_figures() -> dict[str, Any]:
    """Read the figures and make them the context of shop/desk/figures.html."""
    figures = read_figures()
    audits = last_audits()
    alerts = alerts_in(figures, audits)
    return {
        "figures": figures,
        "lines": [_line(line, figures, audits.get(line.product.pk)) for line in figures.products],
        "alerts": [
            {"alert": alert, "is_grave": alert.kind in GRAVE} for alert in _without_doubles(alerts)
        ],
        "few": settings.ALERT_LOW_STOCK_UNITS,
    }


def _without_doubles(alerts: list[Alert]) -> list[Alert]:
    """Leave out that few units are left of what is sold out."""
    sold_out = {alert.product.pk for alert in alerts if alert.kind == Kind.SOLD_OUT}
    return [a for a in alerts if a.kind != Kind.LOW_STOCK or a.product.pk not in sold_out]


def _line(line: ProductFigures, figures: Figures, audit: ProductAudit | None) -> dict[str, Any]:
    strategy = STRATEGIES.get(line.product.strategy)
    refusals = line.refusals or {}
    return {
        "figures": line,
        "product": line.product,
        "state": STATES[line.state],
        "whole": max(line.filled_to, 1),
        "strategy": strategy.label if strategy else line.product.strategy,
        "refused": sum(refusals.values()),
        "refusals": [(word, refusals[name]) for name, word in REASONS.items() if name in refusals],
        "audited_at": audit.finished_at if audit else None,
        "expires_in_s": _seconds_until(line.next_expiry_at, figures.taken_at),
    }


def _seconds_until(moment: datetime | None, now: datetime | None) -> int | None:
    if moment is None or now is None:
        return None
    return max(0, round((moment - now).total_seconds()))
