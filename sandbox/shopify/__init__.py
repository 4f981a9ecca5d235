"""Shopify as the suite meets it: deliveries to receive, and what must come of each."""
