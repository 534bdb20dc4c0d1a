"""The console: pages for administrators and support, over the same services as the API.

No rule lives in a page. A route parses, makes its calls and shows a template; GET shows, POST acts and answers
303, so that neither the back button nor a second click does anything twice.
"""
