"""`python -m convnextv2`, and `torchrun -m convnextv2`."""

from convnextv2.cli import main

main()
