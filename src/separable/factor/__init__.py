"""From dense weights to a sum of few outer products, with a certified error."""

from .algorithms.complex_parts import complex_parts as complex_parts
from .effort import DEFAULT_EFFORT as DEFAULT_EFFORT
from .effort import Effort as Effort
from .verbs import DEFAULT_TOL as DEFAULT_TOL
from .verbs import factor as factor
from .verbs import factored as factored
from .verbs import is_separable as is_separable
from .verbs import within as within
