"""What the administrator of an HR system has to do there, in lines to send to them: the address, never the secret.

The guides in `docs/how-to` say the same at greater length. What the other system calls its own stands in “quotes”, and
a test finds each of these words in its guide.
"""

from worker.texts import Text, mark, text

STEPS = {
    "standard": (
        mark("Send each event by POST to {address}, signed as Standard Webhooks says. The secret comes separately."),
        mark(
            "“type” is “user.deactivated” (has left), “user.reactivated” (is back) or “user.deactivation_cancelled” "
            "(does not leave after all). Send nothing for a person who is away."
        ),
        mark(
            "“external_id”, in “data”, is the person's id that never changes, exactly as the platform has it; "
            "“timestamp” is when it happened."
        ),
        mark("The answer is 202 once the event is stored. Send it again, with the same “webhook-id”, until it is."),
        mark(
            "A system that cannot sign needs a small program in between. From Workday it sends each row of a report "
            "with “Employee ID” and “Termination Date”."
        ),
    ),
    "okta": (
        mark("In Okta: “Workflow”, “Event Hooks”. URL: {address}"),
        mark("“Authentication field”: “Authorization”. “Authentication secret”: the secret, which comes separately."),
        mark("Events: “User deactivated” and “User activated”."),
        mark("Press “Verify”: Okta asks this address at once. From then on each of these events arrives here."),
    ),
    "bamboohr": (
        mark("In BambooHR: “Settings”, “Webhooks”, “Add”. URL: {address}"),
        mark("Make it “field-based”, and let it monitor and post “Status”."),
        mark("BambooHR shows a “private key” once. It is the secret: send it to us, separately."),
        mark(
            "“Inactive” deactivates a person, “Active” reactivates them; other changes do nothing. Learners are found "
            "by BambooHR's “employee id”."
        ),
    ),
    "hibob": (
        mark(
            "In HiBob: make a “service user” who may read “People's data”: the employees' “Lifecycle” sections. Send "
            "us its id and token, separately."
        ),
        mark("“Integrations”, “Webhooks”: add one with the URL {address}"),
        mark("Events: “Employee terminated”, “joined”, “activated”, “inactivated”, “updated”, and the “table events”."),
        mark("HiBob shows a “secret”: send it to us, separately. HiBob tests the address at once with a ping."),
        mark("Learners are found by HiBob's “employee id”."),
    ),
    "personio": (
        mark(
            "In Personio: make API credentials that may read persons and employments (“personio:persons:read”). Send "
            "us client id and secret, separately."
        ),
        mark("Make the webhook over Personio's API (“POST /v2/webhooks”). “url”: {address}"),
        mark("“auth_type”: “TOKEN”. “token”: the secret from here, which comes separately. “status”: “ENABLED”."),
        mark(
            "“enabled_events”: “employment.created”, “employment.updated”, “employment.started”, "
            "“employment.terminated”."
        ),
        mark("Each change of an employment arrives here from then on. Learners are found by Personio's “person id”."),
    ),
    "finch": (
        mark("In Finch's dashboard: register a webhook with the URL {address}"),
        mark("Finch shows a “secret”. Send it to us, separately, with the “access token of the connection”."),
        mark(
            "Use an application for each organisation: Finch sends the webhooks of all its connections to one address."
        ),
        mark(
            "Finch reads most systems once a day, so an event may come a day late. Learners are found by Finch's "
            "“individual id”."
        ),
    ),
    "security-events": (
        mark("Let the publisher push to {address}, one token a request, as “application/secevent+jwt”."),
        mark("Do not connect a publisher that deactivates people who are on leave."),
        mark("Learners are found by “sub_id.externalId”."),
        mark("Before the publisher changes its keys, send us the new ones; the ones before count for 72 hours more."),
    ),
}
"""By kind of source. `{address}`: to which the HR system sends."""

DIRECTORIES = {
    "entra-id": (
        mark(
            "In the Entra admin centre: “Enterprise applications”, “New application”, “Create your own”, then "
            "“Provisioning”, mode “Automatic”."
        ),
        mark(
            "“Tenant URL”: {address}. “Secret token”: the token, which comes separately. Press “Test connection”: "
            "Entra ID searches at once for a user that does not exist."
        ),
        mark(
            "Keep the mappings to “userName”, “displayName”, “active” and “externalId”, and delete all others. "
            "“externalId” is an attribute that never changes, such as “employeeId”."
        ),
        mark("Assign the users, and start provisioning. It works in cycles, so a change may come some time later."),
    ),
    "okta": (
        mark("In Okta: add an application with “SCIM provisioning” (“SCIM 2.0”, “HTTP header”). URL: {address}"),
        mark("“Unique identifier”: “userName”. “Authorization”: the token, which comes separately."),
        mark("Under “To App”, turn on “Create Users”, “Update User Attributes” and “Deactivate Users”."),
    ),
}
"""The directories that use SCIM, by their guide. `{address}`: the base URL of SCIM."""


def steps_of(kind: str, address: str) -> list[Text]:
    """What to do in an HR system of a kind."""
    return [text(line, address=address) for line in STEPS[kind]]


def list_directories(address: str) -> list[tuple[str, list[Text]]]:
    """The name of each directory that uses SCIM, and what to do in it."""
    names = {"entra-id": "Microsoft Entra ID", "okta": "Okta"}
    return [(names[one], [text(line, address=address) for line in lines]) for one, lines in DIRECTORIES.items()]
