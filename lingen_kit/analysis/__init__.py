"""What the kit says of architectures without training them: FLOPs, latency, memory, adjacency of tokens."""
