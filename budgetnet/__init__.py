"""budgetnet: the most accurate small convolutional network that fits a parameter budget, as code anyone can read."""

__version__ = "0.1.0"
