"""HTTP: `api` (JSON for producers and operators), `hooks` (HR systems), `scim`, `console` (pages), and what they share."""
