"""What only single-cell users need."""
