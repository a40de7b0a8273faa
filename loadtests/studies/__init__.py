"""How cost grows: one study a file, each a question that is answered by points in a file."""
