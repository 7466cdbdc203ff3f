"""The layers, and the operator that they run on."""

from .modules import DepthwiseSeparableConv1d as DepthwiseSeparableConv1d
from .modules import DepthwiseSeparableConv2d as DepthwiseSeparableConv2d
from .modules import DepthwiseSeparableConv3d as DepthwiseSeparableConv3d
from .modules import DepthwiseSeparableConvTranspose1d as DepthwiseSeparableConvTranspose1d
from .modules import DepthwiseSeparableConvTranspose2d as DepthwiseSeparableConvTranspose2d
from .modules import DepthwiseSeparableConvTranspose3d as DepthwiseSeparableConvTranspose3d
from .modules import SpatiallySeparableConv2d as SpatiallySeparableConv2d
from .modules import SpatiallySeparableConv3d as SpatiallySeparableConv3d
