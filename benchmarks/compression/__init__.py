"""What compression makes of models: every variant measured and judged as the platform does, and the frontier."""
