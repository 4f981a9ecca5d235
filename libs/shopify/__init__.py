"""Shopify's Admin API as every service calls it."""
