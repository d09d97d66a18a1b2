"""How a family learns: rows, what is lowered, the loop over epochs, and where a run's state is kept."""
