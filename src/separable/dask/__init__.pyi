from .verbs import convolve as convolve
from .verbs import correlate as correlate
from .verbs import gaussian as gaussian
from .verbs import uniform as uniform
