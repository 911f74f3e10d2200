"""gislab: build, run, break and measure a resilient GIS on three Raspberry Pis."""
