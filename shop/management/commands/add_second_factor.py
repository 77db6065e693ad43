from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

import qrcode
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django_otp.plugins.otp_totp.models import TOTPDevice


class Command(BaseCommand):
    help = (
        "Make a second factor for one of the staff, and show it for the phone to scan."
        " The one there was, as on a lost phone, is gone then, and so are its sessions."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("username")
        parser.add_argument("--remove", action="store_true", help="Make none: only take it away.")

    def handle(self, *args: Any, username: str, remove: bool, **options: Any) -> None:
        """Replace the factor, and print its address and QR code."""
        user = User.objects.filter(username=username, is_staff=True).first()
        if user is None:
            raise CommandError(f"There is no “{username}” among the staff.")
        with transaction.atomic():
            TOTPDevice.objects.filter(user=user).delete()
            device = None if remove else TOTPDevice.objects.create(user=user, name="phone")
        if device is None:
            self.stdout.write(f"{username} has no second factor any more.")
            return
        self.stdout.write(f"Have {username}'s phone scan this, and nobody else's:\n")
        code = qrcode.QRCode(border=2)
        code.add_data(device.config_url)
        code.print_ascii(out=self.stdout, invert=True)
        self.stdout.write(device.config_url)
