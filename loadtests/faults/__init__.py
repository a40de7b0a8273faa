"""What befalls servers and processes in the midst of an attack, and where that may happen."""
