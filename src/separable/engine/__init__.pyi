from .loader import Profile as Profile
from .loader import Program as Program
from .loader import Stream as Stream
from .loader import UnsupportedOperationsError as UnsupportedOperationsError
from .loader import load as load
from .peers.side_by_side import Bench as Bench
from .peers.side_by_side import bench as bench
