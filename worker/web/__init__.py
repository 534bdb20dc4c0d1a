"""HTTP: `api` (JSON), `hooks` (HR systems), `scim`, `console` (pages), and what they share."""
