from .audits.count import Audit as Audit
from .audits.count import Separability as Separability
from .audits.count import audit as audit
from .conversion.separate import Separation as Separation
from .conversion.separate import separate as separate
from .frontiers.frontier import Frontier as Frontier
from .frontiers.frontier import FrontierPoint as FrontierPoint
from .frontiers.frontier import frontier as frontier
