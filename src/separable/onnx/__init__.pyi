from .audits.count import Audit as Audit
from .audits.count import Separability as Separability
from .audits.count import audit as audit
from .conversion.separate import Separation as Separation
from .conversion.separate import separate as separate
