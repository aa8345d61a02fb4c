"""Your own labelled places, with exports of their series."""
