"""Which commands there are, where each is, and under which topic the help shows it.

Commands are named here and imported when they are called, because the HTTP client, the database and
the server together cost ten times what `penstock --help` may take.
"""

from typing import Final

from penstock.cli.command import Entry, Lazy

DAILY: Final = ("submit", "ls", "show", "watch", "wait", "download", "retry", "cancel")

_JOBS: Final = "penstock.cli.jobs"
_ENDS: Final = "penstock.cli.ends"

JOB_VERBS: Final = {
    "submit": Entry("penstock.cli.submit", "submit", "Send a JSONL file of requests as one job."),
    "ls": Entry(_JOBS, "ls", "List the newest jobs."),
    "show": Entry(_JOBS, "show", "Show one job: counts, cost, what went wrong, what to do."),
    "watch": Entry(_ENDS, "watch", "Follow a job until it ends, then show it."),
    "wait": Entry(_ENDS, "wait", "Wait for the end of a job; the exit code says how it was."),
    "download": Entry(
        "penstock.cli.download", "download", "Fetch the answers; goes on after a cut."
    ),
    "retry": Entry(_ENDS, "retry", "Send failed lines again, into the same output."),
    "cancel": Entry(_JOBS, "cancel", "Stop a job; finished answers are kept."),
    "lines": Entry("penstock.cli.lines", "lines", "Show what became of each line of a job."),
    "images": Entry("penstock.cli.images", "images", "Fetch the pictures of a job, a file each."),
    "open": Entry(_JOBS, "open_", "Print the address of a job on the server."),
}
"""What can be done with jobs: `penstock jobs VERB`, or `penstock VERB` for short."""

JOB_ALIASES: Final = {"status": "show"}
TOP_ALIASES: Final = {
    **JOB_ALIASES,
    "lint": "validate",
    "job": "jobs",
    "result": "results",
    "webhook": "webhooks",
    "key": "keys",
    "org": "orgs",
    "user": "users",
    "model": "models",
    "limit": "limits",
    "quota": "limits",
    "quotas": "limits",
    "profiles": "profile",
}

TOP: Final = {
    **JOB_VERBS,
    "validate": Entry("penstock.cli.validate", "validate", "Judge files; nothing is kept."),
    "estimate": Entry("penstock.cli.estimate", "estimate", "Say what a file is likely to cost."),
    "results": Entry("penstock.cli.results", "results", "Look into the answers of a job."),
    "jobs": Entry("penstock.cli.tree", "jobs", "All that is done with jobs, as one noun."),
    "auth": Entry("penstock.cli.auth", "auth", "Log in to a server with a key, and out again."),
    "profile": Entry("penstock.cli.profile", "profile", "Keep servers and keys under names."),
    "config": Entry("penstock.cli.config", "config", "Show where settings come from."),
    "models": Entry("penstock.cli.models", "models", "List the models that the server offers."),
    "limits": Entry("penstock.cli.limits", "limits", "Show quotas, and what is used of them."),
    "usage": Entry("penstock.cli.usage", "usage", "Show what jobs did cost, and saved."),
    "webhooks": Entry("penstock.cli.webhooks", "webhooks", "Have the ends of jobs told to a URL."),
    "api": Entry("penstock.cli.api", "api", "Call any path of the server's HTTP API."),
    "completion": Entry("penstock.cli.completion", "completion", "Complete commands with Tab."),
    "version": Entry("penstock.cli.version", "version", "Show the versions of both sides."),
    "doctor": Entry("penstock.cli.doctor", "doctor", "Find out what does not work, and why."),
    "dev": Entry("penstock.cli.dev", "dev", "Run server and emulator here, no account needed."),
    "serve": Entry("penstock.cli.serve", "serve", "Run the server."),
    "emulator": Entry("penstock.cli.emulator", "emulator", "Run the emulator of Vertex AI alone."),
    "orgs": Entry("penstock.cli.orgs", "orgs", "Make organisations, suspend them, set quotas."),
    "users": Entry("penstock.cli.users", "users", "Add and remove users of an organisation."),
    "keys": Entry("penstock.cli.keys", "keys", "Create, list, rotate and revoke API keys."),
    "audit": Entry("penstock.cli.audit", "audit", "Read the audit log, and verify it."),
}

TOPICS: Final = {
    "Daily": DAILY,
    "Files and answers": ("validate", "estimate", "lines", "results", "images", "open", "jobs"),
    "Account": ("auth", "profile", "config", "models", "limits", "usage", "webhooks", "api"),
    "This machine": ("doctor", "completion", "version", "dev"),
    "Server": ("serve", "emulator", "orgs", "users", "keys", "audit"),
}

jobs = Lazy(
    "jobs",
    entries=JOB_VERBS,
    aliases=JOB_ALIASES,
    help="""Do something with jobs; each of these stands at the top as well.

\b
Examples:
  penstock jobs submit reviews.jsonl --watch
  penstock jobs ls --status processing
  penstock job show @last
""",
)
