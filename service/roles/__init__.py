"""The processes of a deployment, and the steps of the projector."""
