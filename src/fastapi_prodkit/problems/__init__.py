"""Every error as an RFC 9457 problem document."""
