"""The training of one network: steps, workers that share them, state. No Ray."""
