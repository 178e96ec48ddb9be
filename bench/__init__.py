"""What the relay costs, measured on this machine beside what it can be compared with: `make bench`."""
