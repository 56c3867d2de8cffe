"""Side-by-side timings: how fast the measured parts are beside the plain way of doing the same."""
