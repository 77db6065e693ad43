"""What people type in to sign up and in; made of Django's own forms."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm, PasswordResetForm
from django.utils.translation import gettext_lazy as _

from shop import mails
from shop.accounts import LONGEST_NAME, normal_address


class AddressField(forms.EmailField):
    """An email address, spelled in one way only."""

    def __init__(self, *, autocomplete: str) -> None:
        widget = forms.EmailInput(attrs={"autocomplete": autocomplete, "autofocus": True})
        super().__init__(label=_("Email address"), max_length=LONGEST_NAME, widget=widget)

    def clean(self, value: Any) -> str:
        """Validate and normalise."""
        return normal_address(super().clean(value))


class SignInForm(AuthenticationForm):
    """Asks for address and password; every wrong pair is answered with the same words."""

    username = AddressField(autocomplete="username")
    error_messages = {
        "invalid_login": _(
            "This email address and password do not belong together."
            " Try again, or reset your password."
        ),
        "inactive": "",
    }


class SignUpForm(forms.Form):
    """Asks for an address, to which a link to go on with is sent."""

    email = AddressField(autocomplete="email")


class ResetForm(PasswordResetForm):
    """Sends one mail to any address, so that nothing tells which ones have an account."""

    email = AddressField(autocomplete="email")

    def save(self, **options: Any) -> None:  # type: ignore[override]  # all are by name
        """Send the link; or, to an address without an account that can be used, that it is so."""
        address = self.cleaned_data["email"]
        if any(self.get_users(address)):
            super().save(**options)
        else:
            mails.send_or_log("no_account", address, {"request": options["request"]})

    def send_mail(self, *args: Any, **kwargs: Any) -> None:
        """Send the mail as all others of the shop are sent."""
        _subject, _template, context, _sender, address = args
        mails.send_or_log("password_reset", address, context)
