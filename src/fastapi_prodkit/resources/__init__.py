"""What an app opens when it starts and closes when it stops."""
