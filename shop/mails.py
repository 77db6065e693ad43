"""Mails: each is one template, whose first line is the subject."""

from __future__ import annotations

import logging
from typing import Any

from django.core.mail import EmailMessage
from django.template.loader import render_to_string

from shop import rate_limits
from shop.errors import RateLimited

logger = logging.getLogger(__name__)


def send(name: str, address: str, context: dict[str, Any]) -> None:
    """
    Render the mail of that name, in the language active now, and hand it to the mail server.

    Raises what the mail backend raises, and ValueError for an address that cannot be one.
    """
    subject, _, body = render_to_string(f"shop/mail/{name}.txt", context).partition("\n")
    EmailMessage(subject=subject.strip(), body=f"{body.strip()}\n", to=[address]).send()


def send_or_log(name: str, address: str, context: dict[str, Any]) -> None:
    """
    Send what somebody asked for who may not be the owner of the mailbox.

    A mail server that fails, or a mailbox that got too many, is the log's business, since the
    page says the same anyway.
    """
    try:
        rate_limits.check("mail", buyer=f"mailbox:{address}", address="")
        send(name, address, context)
    except RateLimited:
        logger.warning("The mail “%s” was not sent: its mailbox got too many", name)
    except (OSError, ValueError):
        logger.exception("The mail “%s” was not sent", name)
