"""Displays of single cells, one a file, in scikit-learn's style."""
