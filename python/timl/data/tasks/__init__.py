"""Tasks, task sets, benchmarks and episodes: from labels and regions to what is learned."""
