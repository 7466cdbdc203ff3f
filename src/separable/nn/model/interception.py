"""What all modes that look at operators share."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Interception"]


class Interception(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode whose own code is plain Python: whether it might be compiled is not asked.

    To ask takes an import of two seconds, and a little for each operator.
    """

    # Control flow and compiled kernels come as operators of another class; they are run.
    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False
