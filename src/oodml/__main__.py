"""`python -m oodml`, as `torchrun -m oodml` and `accelerate launch -m oodml` start it."""

from oodml.cli import main

if __name__ == "__main__":
    main()
