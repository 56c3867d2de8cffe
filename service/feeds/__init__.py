"""What brings events in: files, real data sets, a simulated community, and the demo."""
