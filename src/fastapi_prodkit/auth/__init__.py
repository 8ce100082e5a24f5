"""Who is calling: JSON Web Tokens for HTTP and WebSocket."""
