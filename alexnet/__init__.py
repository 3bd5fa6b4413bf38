"""What training and serving agree on: the network, the pixel rules and the checkpoint format."""
