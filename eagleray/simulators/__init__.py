"""From parameters to data: source models, the detector (`observe/`), and many draws from one (`batch`)."""
