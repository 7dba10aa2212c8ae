"""`python -m depth_anything` is the command `depth-anything`."""

from .cli import main

main()
