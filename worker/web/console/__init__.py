"""The console: pages for administrators and support, over the same services as the API.

Pages hold no rules. A route parses the request, calls a service and renders a template. GET shows; POST acts and
answers 303, so that the back button and a second click do nothing twice.
"""
