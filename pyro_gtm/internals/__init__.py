"""The machinery that the layers above share and no user composes with; it imports none of them."""
