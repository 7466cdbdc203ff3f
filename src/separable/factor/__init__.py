"""From dense weights to a sum of few outer products, with a certified error."""

from .verbs import DEFAULT_TOL as DEFAULT_TOL
from .verbs import factor as factor
from .verbs import is_separable as is_separable
from .waves import complex_parts as complex_parts
