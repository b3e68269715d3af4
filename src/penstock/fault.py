"""Named points at which a process may die: `fault("submit.sent")`.

A call raises an audit event and nothing else: without an audit hook it costs a fraction of a
microsecond, and no setting can turn it into anything. `tests/crash` adds a hook that really kills
the process there, and a test holds this table equal to the calls in the sources. The letters are
those of the plan (docs/reliability.md, "Real kills"); the points under R, U and X are ours.

Accepting a submission
  A1   accept.authenticated     the key is known, nothing is read
  A2   accept.claimed           the idempotency key is claimed, nothing is read
  A3   accept.opened            the two files exist and are empty
  A4   accept.half_received     half of the bytes were checked (in the receiving process)
  A5   accept.received          all bytes were checked and nothing is synced (in that process, too)
  A6   accept.synced            the files are synced and lie in incoming/
  A7   accept.renamed           they have their names, which no directory has synced
  A8   accept.durable           the bytes are durable, and there is no row
  A9   accept.in_transaction    between the row and its first event
  A10  accept.committed         the row is committed, no byte of the answer is sent
  A11  accept.half_answered     the head of the answer is sent, its body is not
An upload in pieces
  U1   upload.created           it is durable, and nobody knows its id
  U2   upload.synced            a piece is synced and not counted
  U3   upload.job_chosen        the id of its job is durable, and there is no job
  U4   upload.job_made          the job is committed, the upload is not finished
Preparing
  B1   stage.found              a job without a workflow is found
  B2   stage.enqueued           its workflow is committed
  B3   prepare.half_written     a block went to the bucket, whose object does not exist yet
  B4   prepare.finalised        the object is there, and nobody recorded it
  B5   prepare.recorded         the move to PREPARED is committed
  X1   engine.step_done         a step has ended, and the engine has not recorded that
  R1   prepare.object_written   one of several objects is there
  R2   prepare.twins_kept       the table of identical lines is durable, and the job has not moved
  R3   shards.in_transaction    between the rows of the shards and the event that tells of them
  R4   shards.begun             the shards are committed, and nobody works on them
Submitting
  C1   submit.before_intent     the look before the intent found nothing
  C2   submit.intent_committed  the intent is committed, nothing is sent
  C3   submit.sent              the POST is on its way, no answer is read
  C4   submit.answered          the answer is read and not recorded
  C5   submit.recorded          the provider's job is recorded
  C6   reconcile.before_list    an intent without an answer, before the list
  C7   reconcile.found          the list has the job, which is not adopted yet
  C8   reconcile.input_removed  the fenced input is away, a new attempt is not committed
  C9   reconcile.settling       in the wait for a create that may still land
Polling
  D1   poll.before              before the provider is asked
  D2   poll.answered            its answer is not committed
  D3   poll.committed           it is
Collecting
  E1   collect.listed           the output's files are listed
  E2   collect.half_read        a block of a file was read
  E3   collect.half_merged      a block of the output was written (in a collector, if it is large)
  E4   collect.merged           all of it is written and nothing is synced
  E5   collect.synced           it is synced and lies in incoming/
  X2   collect.renamed          it has its name, which no directory has synced
  E6   collect.finalised        it is durable and not recorded
  E7   finish.in_transaction    between the terminal state and the ledger
  E8   finish.committed         both are committed
Looking at what a running job has so far
  L1   partial.wished           the wish is committed, and not answered
  L2   partial.read             the rows so far are read, nothing is merged
  L3   partial.committed        the look is durable, and no row names it
  L4   partial.recorded         the row names it, the one before is still there
Sending lines again, and putting shards together
  R5   again.in_transaction     between the output of a round and the next round
  R6   again.committed          both are committed
  R7   reopen.in_transaction    between the owner's round and its row in the audit log
  R8   reopen.committed         both are committed, and nothing is answered
  R9   join.listed              the shards have ended, and nothing of them is read
  R10  join.half_written        the output of a shard was copied
  R11  join.written             all of it is written and nothing is synced
  R12  join.finalised           it is durable and not recorded
  R13  join.forgotten           it is recorded, and the files of the shards are gone
Telling webhooks
  F1   webhook.claimed          deliveries are claimed, nothing is sent
  F2   webhook.sent             one is on its way, no answer is read
  F3   webhook.answered         the answer is read and not recorded
  F4   webhook.recorded         it is recorded
Cancelling
  G1   cancel.wished            the wish is committed, and not answered
  G2   cancel.before_provider   the reason is committed, the provider is not asked
  G3   cancel.sent              the provider was asked, and nothing says so
  G4   cancel.while_submitting  the wish is committed between an intent and its answer
Maintenance
  I1   migrate.between_steps    tables exist, their version is not committed
  X3   migrate.upgraded         an old database has this version's tables, nothing is committed
  I4   stop.begun               SIGTERM has come, and the engine is about to end
"""

import sys

EVENT = "penstock.fault"
"""The audit event; its one argument is the name."""


def fault(name: str) -> None:
    """Say that the process is at this point."""
    sys.audit(EVENT, name)
