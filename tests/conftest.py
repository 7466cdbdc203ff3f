"""What all tests share: how hypothesis runs, and that no measured rates of this machine decide anything."""

from __future__ import annotations

import os

from hypothesis import settings

# A machine under load is no reason for a property to fail.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

# Plans choose by the rates that come with the package, here and in processes that tests start.
os.environ["SEPARABLE_CACHE_DIR"] = os.devnull

# Plans choose by the rates that come with the package, here and in processes that tests start.
os.environ["SEPARABLE_CACHE_DIR"] = os.devnull
