from .loader import Profile as Profile
from .loader import Program as Program
from .loader import UnsupportedOperationsError as UnsupportedOperationsError
from .loader import load as load
