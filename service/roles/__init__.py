"""The processes of a deployment: worker and projector, and what the projector does with campaigns."""
