"""A Shopify Admin GraphQL API that judges each operation by Shopify's own schema.

Shares no code with what it judges.
"""
