"""The settings of an organisation: tokens, members, HR sources, webhooks, retention; each page with its history."""
