"""Tools: what an agent may call. The face of this floor; the rooms behind it hold one noun each."""

from desist.tools.decorator import tool
from desist.tools.function import Function
from desist.tools.function_call import FunctionCall
from desist.tools.toolkit import Toolkit

__all__ = ["Function", "FunctionCall", "Toolkit", "tool"]
