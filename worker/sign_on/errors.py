"""What can be wrong with a sign-in."""

from worker.errors import WithdrawalsError


class SignInRefusedError(WithdrawalsError):
    """The provider's answer does not sign anybody in. The message is for the person, and quotes nothing of it."""

    type = "sign_in_refused"


class NoRoleError(SignInRefusedError):
    """The person is known to the provider, and none of their groups has a role here."""

    type = "no_role"


class ProviderUnreachableError(WithdrawalsError):
    """The provider does not answer, or not as OpenID Connect says. The message is for operators."""

    type = "provider_unreachable"
