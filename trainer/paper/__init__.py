"""The experiments of the paper, repeated: `alexnet paper`."""
