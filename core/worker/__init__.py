"""What runs elsewhere: the engine behind every remote worker, its entry points, its HTTP servers."""
