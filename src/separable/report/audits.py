"""An audit as people read it: printed, shown in a notebook, and written as a page."""

from __future__ import annotations

from ..conv.audits.records import AuditRecord, Layer, Refused
from .paged import Paged
from .text.audits import notebook, table

__all__ = ["Audit", "Layer", "Refused"]


class Audit(AuditRecord, Paged):
    """What a model costs and how separable it is, layer by layer. Print it, or write `to_html` or `to_json`.

    Attributes
    ----------
    model : str
        Class of the torch model; name of the ONNX file, or of the graph where there is no file.
    example : str
        What it was run on.
    layers : tuple of Layer
        In the order of their first call.
    params : int
        All parameters of the model, shared ones once, also of layers that multiply nothing (norms,
        embeddings) or never ran.
    measured_ms : float or None
        Median time of the whole model, without any watching.
    machine : Machine or None
        The speeds behind `roofline_ms`; None if the model does not run on the CPU.
    uncounted : tuple of str
        Operators that may have multiplied, and that no rule covers.
    remark : str
        How it was run.
    separability : tuple of Separability
        Of each convolution that mixes channels, in running order; the name is the layer's.
    refused : tuple of Refused
        The convolutions that cannot be converted, and why.

    Examples
    --------
    >>> import torch
    >>> import separable as sp
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 32, 3))
    >>> a = sp.nn.audit(net, (1, 3, 32, 32))
    >>> a.macs, a.flops, a.params
    (4001472, 8042432, 5088)
    >>> [(layer.name, layer.kind, layer.macs) for layer in a.layers]
    [('0', 'conv', 388800), ('2', 'conv', 3612672)]
    >>> [form.name for form in a.separability]
    ['0', '2']
    """

    def __str__(self) -> str:
        return table(self)

    def _repr_html_(self) -> str:
        return notebook(self)

    def _page(self) -> str:
        from .pages.audit import page

        return page(self)
