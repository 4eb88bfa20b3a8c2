"""How well classes can be told from stored activations, by methods that leave the network alone."""
