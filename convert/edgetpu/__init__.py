"""Edge TPU: what will map, compiling where the compiler is, and what to do where it is not."""

from convert.edgetpu.check import check
from convert.edgetpu.compiler import Compiled, Log, by_hand, compile_model, parse_log

__all__ = ["Compiled", "Log", "by_hand", "check", "compile_model", "parse_log"]
