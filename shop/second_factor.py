"""The code of the phone that staff give beside their password, where STAFF_SECOND_FACTOR is on."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.models import AbstractBaseUser
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy
from django_otp.forms import OTPAuthenticationFormMixin
from django_otp.plugins.otp_totp.models import TOTPDevice

LONGEST_CODE = 16


class PasswordAndCodeForm(OTPAuthenticationFormMixin, AdminAuthenticationForm):  # type: ignore[misc]  # django-otp ships no types
    """
    Asks staff for name, password and code.

    A code is good once, and wrong ones make the device wait ever longer: that is django-otp's.
    """

    otp_token = forms.CharField(
        label=_("Code"),
        max_length=LONGEST_CODE,
        help_text=_("Six digits, from the app on your phone."),
        widget=forms.TextInput(
            attrs={
                "autocomplete": "one-time-code",
                "inputmode": "numeric",
                "aria-describedby": "id_otp_token_helptext",
            }
        ),
    )
    otp_error_messages = {
        "invalid_token": _("This code is wrong, too old, or was used before. Wait for the next."),
        "token_required": _("Give the code that your phone shows."),
        "device_required": _(
            "You have no second factor yet. Whoever runs the shop makes one for you:"
            " manage.py add_second_factor."
        ),
        "verification_not_allowed": _("Codes are not taken just now. Try again later."),
        "n_failed_attempts": ngettext_lazy(
            "After %(failure_count)d wrong code you have to wait. Try again in a moment.",
            "After %(failure_count)d wrong codes you have to wait. Try again in a while.",
            "failure_count",
        ),
    }

    def clean(self) -> dict[str, Any]:
        """Look at the code where the password was right. Raises ValidationError."""
        cleaned: dict[str, Any] = super().clean()
        self.clean_otp(self.get_user())
        return cleaned

    def clean_otp_token(self) -> str:
        """Take “123 456”, as phones show it."""
        code: str = self.cleaned_data["otp_token"]
        return "".join(code.split())

    def _chosen_device(self, user: AbstractBaseUser) -> TOTPDevice | None:
        """Lock the user's one device, so that of two who send the same code one is let in."""
        devices = TOTPDevice.objects.select_for_update()
        device: TOTPDevice | None = devices.filter(user=user, confirmed=True).first()
        return device

    def _update_form(self, user: AbstractBaseUser) -> None:
        """Change nothing: the password is not written into the page again."""
