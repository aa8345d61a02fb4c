"""Maps of a class, and the files beside them."""
