"""What Headrace costs, measured on the machine at hand: `make bench`."""
