"""Ways in which imagery is described: STAC items, products of Sentinel-2 and Landsat, plain GeoTIFFs."""
