"""The commands of `depth-anything`: a module per command, one function each, heavy imports inside."""

from depth_anything.system.moved import names_of

__getattr__ = names_of("cli")
