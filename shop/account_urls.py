"""The addresses of accounts, under /account/."""

from django.urls import path

from shop.views import accounts
from shop.views.limiting import limited

by_rate = limited("sign_in")

urlpatterns = [
    path("", accounts.Account.as_view(), name="account"),
    path("sign-in/", by_rate(accounts.SignIn.as_view()), name="sign-in"),
    path("sign-out/", accounts.SignOut.as_view(), name="sign-out"),
    path("sign-up/", by_rate(accounts.SignUp.as_view()), name="sign-up"),
    path("sign-up/sent/", accounts.mail_sent, name="sign-up-sent"),
    path("sign-up/<str:token>/", accounts.ConfirmSignUp.as_view(), name="sign-up-confirm"),
    path("password/", accounts.ChangePassword.as_view(), name="password-change"),
    path("password/changed/", accounts.password_changed, name="password-changed"),
    path("reset/", by_rate(accounts.ResetPassword.as_view()), name="password-reset"),
    path("reset/sent/", accounts.mail_sent, name="password-reset-sent"),
    path("reset/done/", accounts.password_reset_done, name="password-reset-done"),
    path("reset/<uidb64>/<token>/", accounts.ConfirmReset.as_view(), name="password-reset-confirm"),
]
