"""SCIM 2.0 (RFC 7643, RFC 7644): users of the token's organisation, for Okta, Entra ID and their like."""
