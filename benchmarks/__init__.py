"""Side by side with the packages people use instead: verified work, one process, interleaved, ratios."""
