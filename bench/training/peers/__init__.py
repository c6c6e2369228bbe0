"""Programs that train as their authors' examples do: what Modelyard's recipes are compared with."""
