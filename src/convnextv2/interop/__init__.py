"""Our models inside other libraries."""
