from .accessor import SeparableAccessor as SeparableAccessor
