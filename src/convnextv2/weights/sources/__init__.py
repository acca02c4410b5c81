"""Where weights come from besides a file: published names, the hub, downloads, what lies beside them."""
