"""What vilg asks of XLA's compilers, and what they answer: sets of flags and warnings."""
