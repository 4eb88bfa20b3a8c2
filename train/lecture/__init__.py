"""What a lecturer shows: the arithmetic of convolution in worked examples, and a network as a table and to scale."""
