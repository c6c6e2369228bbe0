"""What must hold of the rows at every moment, whatever was killed: pure checks, and a reader that brings them the rows."""
