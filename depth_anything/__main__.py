"""`python -m depth_anything` is the command `depth-anything`."""

from depth_anything.cli import main

main()
