from .journal import JournalError as JournalError
from .stream_plan import StreamPlan as StreamPlan
from .verbs import filter as filter
from .verbs import plan as plan
from .verbs import pyramid as pyramid
