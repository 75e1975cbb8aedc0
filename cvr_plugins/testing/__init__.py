"""The conformance suite for anyone's method: `check_method(METHOD)`, or one pytest test per check.

    import pytest
    from cvr_plugins.testing import method_checks

    @pytest.mark.parametrize("check", method_checks())
    def test_my_method(check):
        check(MY_METHOD)

Needs neither torch-rechub nor RecBole, and pytest only for the above. Each check says in a failure what it is, what was
expected, what was found, and what usually brings that about.
"""

from cvr_plugins.testing._check import CheckFailure, CheckResult
from cvr_plugins.testing._suite import Check, UnknownCheck, check_method, method_checks, run_checks
from cvr_plugins.testing.pretended_device import MixedDevicesError, PretendedDevice

__all__ = [
    "Check",
    "CheckFailure",
    "CheckResult",
    "MixedDevicesError",
    "PretendedDevice",
    "UnknownCheck",
    "check_method",
    "method_checks",
    "run_checks",
]
