"""Training of Gluon blocks."""
