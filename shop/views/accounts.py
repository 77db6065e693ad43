"""Sign up, in and out; passwords. Django's own views, in the shop's look."""

from __future__ import annotations

from typing import Any

from axes.utils import reset as lift_lock
from django.conf import settings
from django.contrib.auth import login, views
from django.contrib.auth.forms import SetPasswordForm
from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.auth.models import User
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse, reverse_lazy
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.generic import FormView, TemplateView

from shop import accounts, mails, refusals
from shop.account_forms import ResetForm, SignInForm, SignUpForm
from shop.buyers import forget_guest
from shop.joining import join_guest
from shop.throttling import noted_name

PASSWORDS = "django.contrib.auth.backends.ModelBackend"
CHOICE_PAGE = "shop/account/choose_password.html"


class SignIn(views.LoginView):
    """Ask for address and password."""

    authentication_form = SignInForm
    template_name = "shop/account/sign_in.html"


class SignOut(views.LogoutView):
    """End the session, and the guest of this browser with it: the next person is another."""

    next_page = "product-list"

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Take in what the guest's purchases under way became, then part."""
        if request.user.is_authenticated:
            join_guest(request, request.user)
        return forget_guest(super().post(request, *args, **kwargs))


class SignUp(FormView):
    """
    Ask for an address and send a link there, which alone can make an account.

    Whose address is known already is sent a mail that says so: the answer is the same.
    """

    form_class = SignUpForm
    template_name = "shop/account/sign_up.html"

    def form_valid(self, form: SignUpForm) -> HttpResponse:
        """Send the one mail or the other."""
        address = form.cleaned_data["email"]
        link = reverse("sign-up-confirm", args=[accounts.sign_up_token(address)])
        context = {"request": self.request, "link": self.request.build_absolute_uri(link)}
        name = "known_address" if accounts.is_known(address) else "sign_up"
        mails.send_or_log(name, address, context)
        return redirect("sign-up-sent")


@method_decorator([sensitive_post_parameters(), never_cache], name="dispatch")
class ConfirmSignUp(FormView):
    """Ask who followed the link for a password; make the account and sign in."""

    form_class = SetPasswordForm
    template_name = CHOICE_PAGE

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Read the address out of the link."""
        address = accounts.address_in(kwargs["token"])
        if address is None:
            return self._used_up()
        self.user = User(username=address, email=address)
        return super().dispatch(request, *args, **kwargs)

    def get_form_kwargs(self) -> dict[str, Any]:
        """Have the password judged beside the address."""
        return {**super().get_form_kwargs(), "user": self.user}

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Name the address."""
        title = _("Choose a password")
        return super().get_context_data(
            title=title, validlink=True, address=self.user.email, **kwargs
        )

    def form_valid(self, form: SetPasswordForm) -> HttpResponse:
        """Make the account, once."""
        try:
            form.save()
        except IntegrityError:
            return self._used_up()
        login(self.request, self.user, backend=PASSWORDS)
        return redirect(settings.LOGIN_REDIRECT_URL)

    def _used_up(self) -> HttpResponse:
        context = {"title": _("This link does not work any more"), "validlink": False}
        return self.render_to_response(context)


class Account(LoginRequiredMixin, TemplateView):
    """Show who is signed in and what can be changed."""

    template_name = "shop/account/account.html"


class ChangePassword(views.PasswordChangeView):
    """Ask for the old password and the new; every other session of the user ends."""

    template_name = "shop/account/change_password.html"
    success_url = reverse_lazy("password-changed")


class ResetPassword(views.PasswordResetView):
    """Ask for an address and send a link there."""

    form_class = ResetForm
    template_name = "shop/account/reset_password.html"
    success_url = reverse_lazy("password-reset-sent")


class ConfirmReset(views.PasswordResetConfirmView):
    """Ask who followed the link for a new password; every session of the user ends."""

    template_name = CHOICE_PAGE
    success_url = reverse_lazy("password-reset-done")

    def form_valid(self, form: SetPasswordForm) -> HttpResponse:
        """Let the owner of the mailbox in at once, however often the old password failed."""
        name = {"username": form.user.get_username()}
        lift_lock(username=noted_name(self.request, name))
        return super().form_valid(form)


class Said(TemplateView):
    """Say one thing."""

    template_name = "shop/account/said.html"


mail_sent = Said.as_view(
    extra_context={
        "title": gettext_lazy("We sent you a mail"),
        "text": gettext_lazy("Follow the link in it to go on. It may take a minute to arrive."),
    }
)
password_changed = Said.as_view(
    extra_context={
        "title": gettext_lazy("Your password is changed"),
        "text": gettext_lazy("Wherever else you were signed in, you are signed out now."),
    }
)
password_reset_done = Said.as_view(
    extra_context={
        "title": gettext_lazy("Your password is changed"),
        "text": gettext_lazy("Sign in with the new one."),
    }
)


def locked_out(
    request: HttpRequest, response: HttpResponse | None, credentials: dict[str, str] | None
) -> HttpResponse:
    """Answer for a sign-in that failed too often; the same for a name that nobody has."""
    answer = refusals.Answer(
        status=429, code="too_many_attempts", title=_("Too many attempts to sign in")
    )
    detail = _("Wait a quarter of an hour and try again, or reset your password.")
    page = "shop/account/locked_out.html"
    locked = refusals.message_page(request, answer, detail, page)
    locked["Retry-After"] = str(int(settings.AXES_COOLOFF_TIME.total_seconds()))
    return locked
