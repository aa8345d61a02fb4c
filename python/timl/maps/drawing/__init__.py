"""What lies beside a map: a picture, a page and a STAC item."""
