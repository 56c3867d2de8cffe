"""The stream worker: chunked transport, intake, the engagement and rewards stages, durable pane state."""
