"""What API and lifecycle share of webhooks: addresses, secrets, and one try to deliver."""
