"""Who it is about: HR events and their order, HR sources, the users that SCIM keeps."""
