"""What becomes of events and flags under each fault, measured from outside on real processes: `make faults`."""
