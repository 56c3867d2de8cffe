"""The HTTP API: routes by subject, what stands in front of them, and live events."""
