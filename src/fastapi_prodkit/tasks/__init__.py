"""Work that goes on after the response."""
