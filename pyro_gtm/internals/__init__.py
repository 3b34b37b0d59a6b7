"""What the layers above share and no user composes with: it imports nothing above it."""
