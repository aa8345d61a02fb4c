"""Table 1 of the paper: its experiment, cells, statistics and figures."""
