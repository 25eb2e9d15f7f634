"""Displays, one a file, in scikit-learn's style."""
