"""Tools that an agent can call."""

from desist.tools.decorator import tool
from desist.tools.function import Function
from desist.tools.function_call import FunctionCall
from desist.tools.toolkit import Toolkit

__all__ = ["Function", "FunctionCall", "Toolkit", "tool"]
