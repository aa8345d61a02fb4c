"""Downloading CropHarvest's record from Zenodo."""
