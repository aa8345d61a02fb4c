"""The LSTM with FiLM at its input as a layer, and its operator."""
