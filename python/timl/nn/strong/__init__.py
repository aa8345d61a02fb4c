"""The strong protocol's classifier: deep kernel, description, trees, and completion of gaps."""
