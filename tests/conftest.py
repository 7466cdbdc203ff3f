"""What all tests share: how hypothesis runs."""

from __future__ import annotations

from hypothesis import settings

# A machine under load is no reason for a property to fail.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
